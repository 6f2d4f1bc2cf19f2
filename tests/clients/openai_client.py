"""Drives a server with OpenAI's own client, over TCP, with a key. Prints a line for each check; any failure ends it.

usage: openai_client.py build/bin/moraine models/tiny-r1
"""

import enum
import sys
import threading
import time

import openai
import pydantic
from openai.types.responses import Response, ResponseStreamEvent

from served import KEY, check, start

QUESTION = [{"role": "user", "content": "What is 348 + 275?"}]


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    return None


def models(client):
    check("models", [m.id for m in client.models.list()] == ["tiny-r1"])


def whole(client):
    answer = client.chat.completions.create(model="tiny-r1", messages=QUESTION, temperature=0)
    message = answer.choices[0].message
    check("chat", "623" in message.content, repr(message.content))
    check("reasoning", "8+5=13" in message.reasoning_content and message.reasoning == message.reasoning_content)
    check("finish and usage", answer.choices[0].finish_reason == "stop" and answer.usage.total_tokens > 20)
    details = answer.usage.completion_tokens_details
    check("reasoning tokens", details.reasoning_tokens > 20, details.reasoning_tokens)
    return message.content


def stream(client, text):
    content, reasoning, finish, usage, chunks = "", "", None, None, 0
    for chunk in client.chat.completions.create(
        model="tiny-r1", messages=QUESTION, temperature=0, stream=True, stream_options={"include_usage": True}
    ):
        chunks += 1
        usage = chunk.usage or usage
        for choice in chunk.choices:
            content += choice.delta.content or ""
            reasoning += getattr(choice.delta, "reasoning_content", None) or ""
            finish = choice.finish_reason or finish
    check("stream joins to the whole answer", content == text and "8+5=13" in reasoning, f"{chunks} chunks")
    check("stream ends with its reason and usage", finish == "stop" and usage.completion_tokens > 20)


def options(client):
    answer = client.chat.completions.create(
        model="tiny-r1", messages=QUESTION, temperature=0, n=2, max_tokens=4, logprobs=True, top_logprobs=2
    )
    check("n", len(answer.choices) == 2 and answer.choices[1].finish_reason == "length")
    top = answer.choices[0].logprobs.content[0].top_logprobs
    check("logprobs", len(top) == 2 and top[0].logprob >= top[1].logprob)
    stopped = client.chat.completions.create(model="tiny-r1", messages=QUESTION, temperature=0, stop=["= 6"])
    check("stop", "=" not in stopped.choices[0].message.content, repr(stopped.choices[0].message.content))
    parts = [{"role": "developer", "content": "Add."}, {"role": "user", "content": [{"type": "text", "text": "5 + 4"}]}]
    check("parts", client.chat.completions.create(model="tiny-r1", messages=parts, max_tokens=2).usage.prompt_tokens > 5)
    plain = client.completions.create(model="tiny-r1", prompt="348 + 275 =", max_tokens=1, temperature=0, echo=True, logprobs=1)
    check("completions", plain.choices[0].text.startswith("348 + 275 =") and plain.choices[0].logprobs.token_logprobs[0] is None)


ADD = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": ADD}}


def tools(client):
    """The shipped model knows no tools; a call that is demanded is begun by the prompt."""
    ask = dict(model="tiny-r1", messages=QUESTION, tools=[TOOL], temperature=0, max_tokens=60)
    forced = {"type": "function", "function": {"name": "add"}}
    choice = client.chat.completions.create(**ask, tool_choice=forced).choices[0]
    call = choice.message.tool_calls[0]
    check("tool call", call.function.name == "add" and call.id.startswith("call_"), repr(call.function.arguments))
    check("its finish reason", choice.finish_reason == "tool_calls" and choice.message.content is None)
    with client.chat.completions.stream(**ask, tool_choice="required") as stream:
        streamed = stream.get_final_completion().choices[0]
    check("streamed tool call", streamed.message.tool_calls[0].function.arguments == call.function.arguments)
    result = {"role": "tool", "tool_call_id": call.id, "content": "7"}
    again = client.chat.completions.create(**{**ask, "messages": [*QUESTION, choice.message, result]})
    check("result of a call", again.usage.prompt_tokens > 40, again.choices[0].message.content)
    error = raises(openai.BadRequestError, lambda: client.chat.completions.create(**ask, tool_choice={"type": "allowed_tools"}))
    check("400 names tool_choice", error is not None and error.param == "tool_choice", error)


def responses(client, text):
    """Every object is held to the package's own types, which its client does not do by itself."""
    ask = dict(model="tiny-r1", input=QUESTION[0]["content"], temperature=0)
    answer = client.responses.create(**ask)
    check("response", answer.output_text == text and answer.status == "completed", repr(answer.output_text))
    check("its reasoning", "8+5=13" in answer.output[0].content[0].text and answer.usage.output_tokens > 20)
    Response.model_validate(client.post("/responses", body=ask, cast_to=object))
    with client.responses.stream(**ask) as stream:
        events = list(stream)
        check("streamed response", stream.get_final_response().output_text == text, f"{len(events)} events")
    check("sequence numbers", [e.sequence_number for e in events] == sorted({e.sequence_number for e in events}))
    for event in client.responses.create(**ask, stream=True):
        pydantic.TypeAdapter(ResponseStreamEvent).validate_python(event.to_dict())
    short = client.responses.create(**ask, max_output_tokens=3)
    check("cut off", short.status == "incomplete" and short.incomplete_details.reason == "max_output_tokens")

    tool = {"type": "function", "name": "add", "parameters": ADD, "strict": False}
    forced = dict(ask, tools=[tool], tool_choice={"type": "function", "name": "add"}, max_output_tokens=60)
    call = client.responses.create(**forced).output[0]
    check("function call", call.type == "function_call" and call.name == "add", repr(call.arguments))
    with client.responses.stream(**forced) as stream:
        check("streamed function call", stream.get_final_response().output[0].arguments == call.arguments)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "7"}
    turn = [{"role": "user", "content": "3 + 4?"}, call, result]
    check("its result", client.responses.create(**dict(ask, input=turn, tools=[tool])).usage.input_tokens > 40)
    error = raises(openai.BadRequestError, lambda: client.responses.create(**ask, previous_response_id="resp_1"))
    check("nothing is kept", error is not None and error.param == "previous_response_id", error)


class Kind(enum.Enum):
    SUM = "sum"
    PRODUCT = "product"


class Step(pydantic.BaseModel):
    left: int
    carry: int | None
    note: str = pydantic.Field(max_length=8)


class Sum(pydantic.BaseModel):
    steps: list[Step] = pydantic.Field(min_length=1, max_length=2)
    answer: int
    kind: Kind
    sure: bool


def forms(client):
    parse = lambda form, **more: client.chat.completions.parse(
        model="tiny-r1", messages=QUESTION, temperature=0, response_format=form, **more
    )
    choice = parse(Sum, max_tokens=1000).choices[0]
    check("parsed", isinstance(choice.message.parsed, Sum) and choice.finish_reason == "stop", choice.message.parsed)
    check("reasoning before a form", "8+5=13" in choice.message.reasoning_content)
    error = raises(openai.LengthFinishReasonError, lambda: parse(Sum, max_tokens=60))
    check("a form that is cut", error is not None)

    class Dated(pydantic.BaseModel):
        when: str = pydantic.Field(pattern="^[0-9]+$")

    error = raises(openai.BadRequestError, lambda: parse(Dated))
    check("400 for a schema", error is not None and "/properties/when" in error.message and "pattern" in error.message, error)
    biased = client.completions.create(
        model="tiny-r1", prompt="1", max_tokens=3, temperature=0, logit_bias={"300": 100},
        extra_body={"return_token_ids": True},
    )
    check("logit_bias", biased.choices[0].token_ids == [300] * 3, biased.choices[0].token_ids)


def errors(client):
    error = raises(openai.NotFoundError, lambda: client.chat.completions.create(model="no", messages=QUESTION))
    check("404", error is not None and error.code == "model_not_found", error)
    error = raises(openai.BadRequestError, lambda: client.chat.completions.create(model="tiny-r1", messages=QUESTION, n=99))
    check("400 names the field", error is not None and error.param == "n", error)
    long = [{"role": "user", "content": "7 " * 20000}]
    error = raises(openai.BadRequestError, lambda: client.chat.completions.create(model="tiny-r1", messages=long))
    check("400 for the context", error is not None and error.code == "context_length_exceeded", error)
    stranger = client.with_options(api_key="wrong")
    check("401", raises(openai.AuthenticationError, lambda: stranger.models.list()) is not None)
    endless = client.with_options(timeout=0.5, max_retries=0)
    error = raises(
        openai.APITimeoutError,
        lambda: endless.chat.completions.create(
            model="tiny-r1", messages=QUESTION, max_tokens=7000, extra_body={"ignore_eos": True}
        ),
    )
    check("a client that gives up", error is not None)


def many(client):
    texts = []
    ask = lambda: texts.append(
        client.chat.completions.create(model="tiny-r1", messages=QUESTION, temperature=0).choices[0].message.content
    )
    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check("16 at once", len(texts) == 16 and len(set(texts)) == 1)


def main():
    binary, model = sys.argv[1:]
    server, address = start(binary, model)
    try:
        client = openai.OpenAI(base_url=f"http://{address}/v1", api_key=KEY, max_retries=8)
        print(f"openai {openai.__version__}, http://{address}", flush=True)
        models(client)
        text = whole(client)
        stream(client, text)
        options(client)
        tools(client)
        responses(client, text)
        forms(client)
        errors(client)
        many(client)
        time.sleep(0.1)
        server.terminate()
        check("SIGTERM", server.wait(timeout=20) == 0)
    finally:
        server.kill()


main()
