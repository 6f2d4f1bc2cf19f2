"""What openapi.json says in words alone: requests that break these rules are a 400, and are not generated."""

import schemathesis

VOCABULARY = 704  # of models/tiny-r1


def names(tools):
    """Of tools or of a choice, in either dialect."""
    inner = [one["function"] if isinstance(one.get("function"), dict) else one for one in tools if isinstance(one, dict)]
    return [one.get("name") for one in inner]


def tools_agree(body):
    tools, choice = body.get("tools"), body.get("tool_choice")
    offered = names(tools if isinstance(tools, list) else [])
    if len(set(map(str, offered))) != len(offered):
        return False
    if choice == "required":
        return bool(offered)
    return not isinstance(choice, dict) or names([choice])[0] in offered


def prompts_agree(body):
    prompt, count = body.get("prompt"), body.get("n")
    if body.get("echo") and body.get("stream"):
        return False
    if body.get("max_tokens") == 0 and not body.get("echo"):
        return False
    if isinstance(body.get("best_of"), (int, float)) and body["best_of"] != (count or 1):
        return False
    many = len(prompt) if isinstance(prompt, list) and not any(isinstance(one, int) for one in prompt) else 1
    return not isinstance(count, (int, float)) or many * count <= 64


def ids(value):
    for one in value if isinstance(value, list) else []:
        yield from ids(one) if isinstance(one, list) else [one]


def ids_agree(body):
    biased = body.get("logit_bias")
    if isinstance(biased, dict) and any(one.isdecimal() and int(one) >= VOCABULARY for one in biased):
        return False
    return all(not isinstance(one, (int, float)) or one < VOCABULARY for key in ("prompt", "tokens") for one in ids(body.get(key)))


def form_agrees(body):
    """A call that is demanded has its own form."""
    form = body.get("response_format")
    demanded = body.get("tool_choice") == "required" or isinstance(body.get("tool_choice"), dict)
    return not (demanded and isinstance(form, dict) and form.get("type") in ("json_object", "json_schema"))


@schemathesis.hook
def filter_case(context, case):
    body = case.body
    if not isinstance(body, dict):
        return True
    agree = tools_agree(body) and ids_agree(body) and form_agrees(body)
    return agree and (case.operation.path != "/v1/completions" or prompts_agree(body))


SCHEMA = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"], "additionalProperties": False}
SHORT = 40
LARGEST = 2**31 - 1  # that the schema allows


@schemathesis.hook
def before_call(context, case, kwargs):
    """Of the model that is there, short answers: thousands of them are asked for."""
    if not isinstance(case.body, dict) or not case.operation.path.startswith("/v1/"):
        return
    if isinstance(case.body.get("model"), str):
        case.body["model"] = "tiny-r1"
    form = case.body.get("response_format")
    inner = form.get("json_schema") if isinstance(form, dict) else None
    if isinstance(inner, dict) and isinstance(inner.get("schema"), dict):
        inner["schema"] = SCHEMA  # of the subset that is kept, which a random one is not
    for limit in ("max_output_tokens", "max_completion_tokens", "max_tokens"):
        asked = case.body.get(limit)
        if isinstance(asked, (int, float)) and SHORT < asked <= LARGEST:
            case.body[limit] = SHORT
    limit = "max_output_tokens" if case.operation.path == "/v1/responses" else "max_tokens"
    case.body.setdefault(limit, SHORT)
