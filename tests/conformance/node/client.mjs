// What OpenAI's client for Node makes of the server at BASE_URL: each scenario prints one JSON document.
//
//     node client.mjs BASE_URL SCENARIO        (in the folder whose node_modules hold the client)
import { createRequire } from "node:module";

const { OpenAI } = createRequire(`${process.cwd()}/`)("openai");
const [baseURL, scenario] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "unused", maxRetries: 0, timeout: 30_000 });
const prompt = "Once upon a time";
const messages = [{ role: "system", content: "Be brief." }, { role: "user", content: prompt }];
const greedy = { model: "tiny", max_tokens: 20, temperature: 0 };

async function collected(stream) {
  const got = { text: "", finish_reasons: [], usage: null, error: null };
  try {
    for await (const chunk of stream) {
      got.usage = chunk.usage ?? got.usage;
      for (const choice of chunk.choices ?? []) {
        got.text += choice.text ?? choice.delta.content ?? "";
        if (choice.finish_reason) got.finish_reasons.push(choice.finish_reason);
      }
    }
  } catch (error) {
    got.error = described(error);
  }
  return got;
}

function described(error) {
  return { type: error.constructor.name, status: error.status ?? null, code: error.code ?? null, param: error.param ?? null };
}

async function refusal(promise) {
  try {
    await promise;
  } catch (error) {
    return described(error);
  }
  return null;
}

const scenarios = {
  async models() {
    const listed = [];
    for await (const model of client.models.list()) listed.push(model.id);
    return { listed, missing: await refusal(client.models.retrieve("gpt-4")) };
  },
  async completion() {
    const whole = await client.completions.create({ ...greedy, prompt });
    const options = { stream: true, stream_options: { include_usage: true } };
    const streamed = await collected(await client.completions.create({ ...greedy, prompt, ...options }));
    return { whole: whole.choices[0].text, finish_reason: whole.choices[0].finish_reason, usage: whole.usage, streamed };
  },
  async chat() {
    const whole = await client.chat.completions.create({ ...greedy, messages });
    const streamed = await collected(await client.chat.completions.create({ ...greedy, messages, stream: true }));
    const final = await client.chat.completions.stream({ ...greedy, messages }).finalContent();
    return { whole: whole.choices[0].message.content, streamed, final };
  },
  async errors() {
    return {
      temperature: await refusal(client.chat.completions.create({ ...greedy, messages, temperature: 3 })),
      tools: await refusal(client.chat.completions.create({ ...greedy, messages, tools: [{ type: "function", function: { name: "f" } }] })),
      length: await refusal(client.completions.create({ ...greedy, prompt, max_tokens: 1_000_000 })),
      model: await refusal(client.completions.create({ ...greedy, prompt, model: "gpt-4" })),
    };
  },
  async leaves() {
    const stream = await client.completions.create({ ...greedy, prompt, max_tokens: 1500, stream: true });
    for await (const chunk of stream) break;
    stream.controller.abort();
    return { has_left: true };
  },
  async "times out"() {
    const impatient = client.withOptions({ timeout: 300 });
    return await refusal(impatient.completions.create({ ...greedy, prompt, max_tokens: 1900 }));
  },
  async stream() {
    return await collected(await client.completions.create({ ...greedy, prompt, max_tokens: 1500, stream: true }));
  },
};

console.log(JSON.stringify(await scenarios[scenario]()));
