"""Drives a server with LangChain's `ChatOpenAI`: whole, streamed, in batches, asynchronous, in a chain.

usage: langchain_client.py build/bin/moraine models/tiny-r1
"""

import asyncio
from importlib.metadata import version

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

from served import KEY, check, serving

QUESTION = "What is 348 + 275?"


async def streamed(model):
    return "".join([piece.content async for piece in model.astream(QUESTION)])


def main():
    with serving() as url:
        print(f"langchain-openai {version('langchain-openai')}, {url}", flush=True)
        model = ChatOpenAI(model="tiny-r1", base_url=f"{url}/v1", api_key=KEY, temperature=0)
        answer = model.invoke(QUESTION)
        check("invoke", "623" in answer.content, repr(answer.content))
        usage = answer.usage_metadata
        check("usage", usage["output_token_details"]["reasoning"] > 20, usage["total_tokens"])
        check("finish", answer.response_metadata["finish_reason"] == "stop")
        pieces = list(model.stream(QUESTION, stream_usage=True))
        check("stream", "".join(piece.content for piece in pieces) == answer.content, f"{len(pieces)} pieces")
        check("usage of a stream", any(piece.usage_metadata for piece in pieces))
        check("astream", asyncio.run(streamed(model)) == answer.content)
        answers = model.batch(["What is 1 + 2?", "What is 3 + 4?"])
        check("batch", [one.content.strip() for one in answers] == ["1 + 2 = 3", "3 + 4 = 7"])
        chain = ChatPromptTemplate.from_messages([("human", "What is {a} + {b}?")]) | model | StrOutputParser()
        check("chain", "= 16" in chain.invoke({"a": 8, "b": 8}))


main()
