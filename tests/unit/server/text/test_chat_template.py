"""Chat templates: rendered as transformers would, and bounded when hostile."""

from __future__ import annotations

import time

import pytest

from inference_server.text import chat_template
from inference_server.text.chat_template import ChatTemplate
from inference_server.text.tokenizer import ChatTemplateError, Message

CHATML = """{% for message in messages %}
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>' + '\n' }}
{%- endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}"""
MESSAGES: list[Message] = [{"role": "system", "content": "Be brief. "}, {"role": "user", "content": "Hi"}]


def test_a_usual_template_renders_with_the_prompt_of_the_answer() -> None:
    assert ChatTemplate(CHATML, {}).render(MESSAGES) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_special_tokens_and_the_usual_helpers_are_there() -> None:
    template = ChatTemplate(
        "{{ bos_token }}{{ messages | tojson }}{% for m in messages %}{% break %}{% endfor %}", {"bos_token": "<s>"}
    )
    assert template.render([{"role": "user", "content": "ü<"}]) == '<s>[{"role": "user", "content": "ü<"}]'


def test_a_template_may_refuse_messages_in_its_own_words() -> None:
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}", {})
    with pytest.raises(ChatTemplateError, match="roles must alternate"):
        template.render(MESSAGES)


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("{{ messages.__class__.__mro__ }}{{ ''.__class__.__mro__[1].__subclasses__() }}", id="escape"),
        pytest.param(
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", id="endless loop"
        ),
        pytest.param("{{ 'x' * 10 ** 10 }}", id="large product"),
        pytest.param("{{ 10 ** 10 ** 10 }}", id="large power"),
        pytest.param("{% for a in range(99999) %}{{ 'x' * 100000 }}{% endfor %}", id="large output"),
        pytest.param("{{ range(10 ** 9) | list }}", id="large range"),
        pytest.param("{{ messages[99].content }}", id="missing message"),
        pytest.param("{{ messages.append('x') }}", id="change of our objects"),
        pytest.param("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", id="endless recursion"),
    ],
)
def test_a_hostile_template_is_an_error_within_its_time(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "LIMIT_SECONDS", 0.1)
    template = ChatTemplate(source, {})
    began = time.monotonic()
    with pytest.raises(ChatTemplateError):
        template.render(MESSAGES)
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("source", ["{% for %}", "{{ x", "x" * 2_000_000], ids=["syntax", "open", "too large"])
def test_a_template_that_cannot_be_used_is_refused_when_it_is_read(source: str) -> None:
    with pytest.raises(ValueError, match="chat template"):
        ChatTemplate(source, {})
