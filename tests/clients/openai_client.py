"""Drives a server with OpenAI's own client, over TCP, with a key. Prints a line for each check; any failure ends it.

usage: openai_client.py build/bin/moraine models/tiny-r1
"""

import sys
import threading
import time

import openai

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
        errors(client)
        many(client)
        time.sleep(0.1)
        server.terminate()
        check("SIGTERM", server.wait(timeout=20) == 0)
    finally:
        server.kill()


main()
