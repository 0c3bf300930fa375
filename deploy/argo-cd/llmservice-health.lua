-- Health of an LLMService for Argo CD: the value of resource.customizations.health.llmservice.dev_LLMService in the
-- ConfigMap argocd-cm.

local function condition(name)
  for _, entry in ipairs(obj.status.conditions or {}) do
    if entry.type == name and entry.observedGeneration == obj.metadata.generation then
      return entry
    end
  end
  return {}
end

if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "Waiting for the operator" }
end

local stalled, ready, paused = condition("Stalled"), condition("Ready"), condition("Paused")
if stalled.status == "True" then
  return { status = "Degraded", message = stalled.reason .. ": " .. stalled.message }
end
if ready.status == "True" then
  return { status = ready.reason == "Suspended" and "Suspended" or "Healthy", message = ready.message }
end
if paused.status == "True" then
  return { status = "Suspended", message = paused.message }
end
return { status = "Progressing", message = ready.message or "Waiting for the operator" }
