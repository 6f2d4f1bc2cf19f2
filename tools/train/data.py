"""Generates the training text: questions with worked answers, split so that test operands are never trained on."""

import hashlib
from dataclasses import dataclass, field

NAMES = ["Tom", "Ann", "Ben", "Mia", "Sam", "Eva", "Leo", "Zoe", "Max", "Ida"]
ITEMS = ["apples", "books", "coins", "cards", "eggs", "pens", "stamps", "shells", "marbles", "cookies"]
COLUMNS = ["Ones", "Tens", "Hundreds", "Thousands"]
SYMBOL = {"+": "+", "-": "-", "*": "×", "/": "÷"}
SPELLED = {
    "+": ["+", "plus"],
    "-": ["-", "minus"],
    "*": ["*", "×", "x", "times"],
    "/": ["/", "÷", "divided by"],
}
FACT_LIMIT = 12
HELD_ONE_IN = 16


@dataclass
class Sample:
    """One conversation: what the user asks, the reasoning, the answer, and the operand pairs it needs."""

    kind: str
    prompt: str
    lines: list
    answer: str
    value: str = ""
    pairs: list = field(default_factory=list)
    system: str = ""
    history: list = field(default_factory=list)

    @property
    def trace(self):
        return "\n".join(self.lines)


# ---- the split ---------------------------------------------------------------------------------


def is_fact(a, b):
    """Pairs of the small tables are learnt by heart, so they can't be held out."""
    low, high = min(a, b), max(a, b)
    return high <= FACT_LIMIT or (low > 0 and high % low == 0 and high // low <= FACT_LIMIT)


def is_held(pair):
    """True for the operand pairs (in either order, whatever the operation) kept for the tests."""
    a, b = sorted(pair)
    if is_fact(a, b):
        return False
    digest = hashlib.blake2s(f"{a},{b}".encode()).digest()
    return int.from_bytes(digest[:4], "little") % HELD_ONE_IN == 0


def is_test(sample):
    return any(is_held(p) for p in sample.pairs)


# ---- worked steps ------------------------------------------------------------------------------


def digits(n):
    """Digits from the ones upward."""
    return [int(c) for c in reversed(str(n))]


def aligned(a, b):
    da, db = digits(a), digits(b)
    width = max(len(da), len(db))
    return zip(COLUMNS, da + [0] * (width - len(da)), db + [0] * (width - len(db)))


def work_add(a, b):
    lines, carry = [f"{a}+{b}"], 0
    for name, x, y in aligned(a, b):
        total = x + y + carry
        lines.append(f"{name}: {x}+{y}{'+1' if carry else ''}={total}")
        carry = total // 10
    return lines + [f"Result: {a + b}"], a + b


def compare_columns(a, b):
    """Lines that walk the columns from the top until they differ."""
    lines = []
    for name, x, y in reversed(list(aligned(a, b))):
        lines.append(f"{name}: {x}{'<' if x < y else '>' if x > y else '='}{y}")
        if x != y:
            break
    return lines


def work_cmp(a, b, smaller=False):
    """The result is the larger (or smaller) number."""
    result = min(a, b) if smaller else max(a, b)
    return [f"{a} and {b}"] + compare_columns(a, b) + [f"Result: {'equal' if a == b else result}"], result


def work_sub(a, b):
    """Compares first, so that the sign is settled digit by digit; below zero the turned difference is then worked."""
    lines, borrow = [f"{a}-{b}"] + compare_columns(a, b), 0
    large, small = max(a, b), min(a, b)
    if a < b:
        lines.append(f"{large}-{small}")
    for name, x, y in aligned(large, small):
        need = x < y + borrow
        x += 10 * need
        lines.append(f"{name}: {x}-{y}{'-1' if borrow else ''}={x - y - borrow}")
        borrow = need
    return lines + [f"Result: {a - b}"], a - b


def work_mul(a, b):
    if a < b:
        a, b = b, a
    lines, carry = [f"{a}×{b}"], 0
    for name, x in zip(COLUMNS, digits(a)):
        total = x * b + carry
        lines.append(f"{name}: {x}×{b}={x * b}" + (f", {x * b}+{carry}={total}" if carry else ""))
        carry = total // 10
    return lines + [f"Result: {a * b}"], a * b


def work_div(a, b):
    return [f"{a}÷{b}", f"{b}×{a // b}={a}", f"Result: {a // b}"], a // b


WORK = {"+": work_add, "-": work_sub, "*": work_mul, "/": work_div}


# ---- operands ----------------------------------------------------------------------------------


def number(rng, low=0, high=999):
    """A number whose count of digits is drawn first, so that small ones aren't rare."""
    top = rng.choices([9, 99, 999], weights=[3, 8, 12])[0]
    return rng.randint(low, max(low, min(top, high)))


def operands(rng, op, low=0):
    if op == "*":
        u = rng.random()
        if u < 0.4:
            return rng.randint(low, 12), rng.randint(low, 12)
        return swap(rng, rng.randint(10, 99) if u < 0.85 else rng.randint(100, 999), rng.randint(2, 9))
    if op == "/":
        b, q = rng.randint(2, 12), rng.randint(1, 12)
        return b * q, b
    a, b = number(rng, low), number(rng, low)
    if op == "-" and a < b and rng.random() < 0.85:
        a, b = b, a
    return a, b


def swap(rng, a, b):
    return (a, b) if rng.random() < 0.5 else (b, a)


def pick_op(rng):
    return rng.choices(["+", "-", "*", "/"], weights=[38, 34, 20, 8])[0]


# ---- phrasings ---------------------------------------------------------------------------------

ASK = [
    "{e}", "{e}", "{e}", "{e} =", "{e} = ?", "{e}?", "What is {e}?", "What is {e}?", "What is {e}?", "what is {e}",
    "Calculate {e}.", "Compute {e}", "How much is {e}?", "Please work out {e}.", "Can you tell me what {e} is?",
    "What's {e}?", "Solve {e}", "Calculate {e}", "what is {e}?", "{e}=", "{e}=?", "{e} ?", "how much is {e}", "calculate {e}",
    "Hello, what is {e}?", "Hi! What is {e}?", "{e} please",
]
ASK_OP = {
    "+": ["Add {a} and {b}.", "What is the sum of {a} and {b}?"],
    "-": ["Subtract {b} from {a}.", "What is the difference between {a} and {b}?"],
    "*": ["Multiply {a} by {b}.", "What is the product of {a} and {b}?"],
    "/": ["Divide {a} by {b}."],
}


def spell(rng, op):
    words = SPELLED[op]
    return words[0] if rng.random() < 0.6 else rng.choice(words)


def join_expr(rng, parts):
    """Puts an expression together, mostly with spaces around the signs."""
    tight = rng.random() < 0.25 and not any(p.isalpha() and p != "x" or " " in p for p in parts if isinstance(p, str))
    return ("" if tight else " ").join(str(p) for p in parts)


def ask(rng, expr):
    return rng.choice(ASK).format(e=expr)


def plain_one(rng, op=None, pair=None):
    op = op or pick_op(rng)
    a, b = pair or operands(rng, op)
    if rng.random() < 0.12 and not (op == "-" and a < b):
        prompt = rng.choice(ASK_OP[op]).format(a=a, b=b)
    else:
        prompt = ask(rng, join_expr(rng, [a, spell(rng, op), b]))
    lines, r = WORK[op](a, b)
    return Sample("one:" + op, prompt, lines, f"{a} {SYMBOL[op]} {b} = {r}", str(r), [(a, b)])


def division(rng):
    return plain_one(rng, "/")


def below_zero(rng):
    while True:
        sample = plain_one(rng, "-")
        if int(sample.value) < 0:
            return sample


ASK_MORE = [
    "Which is larger, {a} or {b}?", "Which number is bigger, {a} or {b}?", "Which is greater, {a} or {b}?", "which is larger {a} or {b}",
    "Is {a} larger than {b}?", "Is {a} bigger than {b}?", "Compare {a} and {b}.", "What is larger, {a} or {b}?",
]
ASK_LESS = ["Which is smaller, {a} or {b}?", "Which number is smaller, {a} or {b}?", "which is smaller {a} or {b}"]


def near(rng):
    """Two numbers to compare: often alike, now and then equal."""
    a, b = number(rng), number(rng)
    u = rng.random()
    if u < 0.04:
        return a, a
    return (a, max(0, min(999, a + rng.choice([-1, 1]) * rng.choice([1, 3, 10, 20, 100])))) if u < 0.3 else (a, b)


def close_difference(rng):
    """A difference whose sign often hangs on the last digits."""
    return plain_one(rng, "-", near(rng))


def plain_compare(rng):
    a, b = near(rng)
    less = rng.random() < 0.25
    question = rng.choice(ASK_LESS if less else ASK_MORE)
    lines, r = work_cmp(a, b, less)
    return Sample("one:?", question.format(a=a, b=b), lines, compare_answer(question, a, b, less), str(r), [(a, b)])


def compare_answer(question, a, b, less):
    if a == b:
        return f"{a} and {b} are equal."
    if question.startswith("Is "):
        return f"Yes, {a} is larger than {b}." if a > b else f"No, {a} is smaller than {b}."
    if less:
        return f"{min(a, b)} is smaller than {max(a, b)}."
    return f"{max(a, b)} is larger than {min(a, b)}."


# ---- word problems -----------------------------------------------------------------------------

STORY_ONE = {
    "+": [
        ("{n} has {a} {i} and gets {b} more. How many {i} does {n} have now?", "{n} has {r} {i} now."),
        ("There are {a} {i} in a box and {b} in a bag. How many {i} are there in total?", "There are {r} {i} in total."),
        ("{n} has {a} {i} and {m} has {b}. How many {i} do they have together?", "They have {r} {i} together."),
    ],
    "-": [
        ("{n} has {a} {i} and gives {b} to {m}. How many {i} does {n} have left?", "{n} has {r} {i} left."),
        ("A shop has {a} {i} and sells {b} of them. How many {i} are left?", "{r} {i} are left."),
        ("{n} has {a} {i} and {m} has {b}. How many more {i} does {n} have?", "{n} has {r} more {i}."),
    ],
    "*": [
        ("There are {a} boxes with {b} {i} each. How many {i} are there in total?", "There are {r} {i} in total."),
        ("{n} buys {a} {i} for {b} coins each. How many coins does {n} pay?", "{n} pays {r} coins."),
    ],
    "/": [("{n} shares {a} {i} with {b} friends equally. How many {i} does each friend get?", "Each friend gets {r} {i}.")],
}


def cast(rng):
    n, m = rng.sample(NAMES, 2)
    return {"n": n, "m": m, "i": rng.choice(ITEMS)}


def topic(answer, who):
    """What a story's answer will have to name, noted first while the question is near."""
    item = "coins" if "coins" in answer else who["i"]
    return f"{who['n']}, {item}" if "{n}" in answer else f"How many {item}"


def story_one(rng):
    op, r = pick_op(rng), 1
    while r == 1:  # "1 apples" reads badly
        a, b = operands(rng, op, 2)
        if op == "-" and a < b:
            a, b = b, a
        lines, r = WORK[op](a, b)
    who = cast(rng)
    question, answer = rng.choice(STORY_ONE[op])
    return Sample("one:" + op, question.format(a=a, b=b, **who), [topic(answer, who)] + lines, answer.format(r=r, **who), str(r), [(a, b)])


def story_compare(rng):
    a, b = near(rng)
    who = cast(rng)
    lines, r = work_cmp(a, b)
    more = who["n"] if a > b else who["m"]
    answer = f"They have the same number of {who['i']}." if a == b else f"{more} has more {who['i']}."
    prompt = "{n} has {a} {i} and {m} has {b}. Who has more {i}?".format(a=a, b=b, **who)
    return Sample("one:?", prompt, ["{n}, {m}, {i}".format(**who)] + lines, answer, str(r), [(a, b)])


def chain(steps):
    """Works several (op, a, b) steps where None stands for the result before; None if a value leaves the range."""
    lines, pairs, r = [], [], None
    for op, a, b in steps:
        a, b = (r if a is None else a), (r if b is None else b)
        if op == "-" and a < b:
            return None
        more, r = WORK[op](a, b)
        if r > 999:
            return None
        lines += more
        pairs.append((a, b))
    return lines, pairs, r


def story_two_plan(rng):
    """A two-step story: its steps, question and answer, with a, b and c drawn."""
    a, b, c = number(rng, 2), number(rng, 2), number(rng, 2)
    s, t, u = rng.randint(2, 9), rng.randint(2, 12), rng.choice([20, 50, 100, 200])
    plans = [
        ([("+", a, b), ("-", None, c)], "{n} has {a} {i}, gets {b} more and then gives {c} to {m}. How many {i} does {n} have now?", "{n} has {r} {i} now."),
        ([("-", a, b), ("+", None, c)], "{n} has {a} {i}, gives {b} to {m} and then finds {c} more. How many {i} does {n} have now?", "{n} has {r} {i} now."),
        ([("-", a, b), ("-", None, c)], "A shop has {a} {i}. It sells {b} on Monday and {c} on Tuesday. How many {i} are left?", "{r} {i} are left."),
        ([("+", a, b), ("+", None, c)], "There are {a} {i} in a box, {b} in a bag and {c} on a table. How many {i} are there in total?", "There are {r} {i} in total."),
        ([("+", a, b), ("+", None, a)], "{n} has {a} {i} and {m} has {b} more than {n}. How many {i} do they have together?", "They have {r} {i} together."),
        ([("*", s, t), ("+", None, c)], "{n} has {s} boxes with {t} {i} each and {c} more {i}. How many {i} does {n} have?", "{n} has {r} {i}."),
        ([("*", s, t), ("-", None, c)], "There are {s} boxes with {t} {i} each. {n} takes {c} of them. How many {i} are left?", "{r} {i} are left."),
        ([("*", s, t), ("-", u, None)], "{n} buys {s} {i} for {t} coins each and pays with {u} coins. How many coins does {n} get back?", "{n} gets {r} coins back."),
    ]
    return rng.choice(plans), dict(a=a, b=b, c=c, s=s, t=t, u=u)


def story_two(rng):
    while True:
        (steps, question, answer), nums = story_two_plan(rng)
        done = chain(steps)
        if done and done[2] != 1:
            break
    lines, pairs, r = done
    who = cast(rng)
    return Sample("two:story", question.format(**nums, **who), [topic(answer, who)] + lines, answer.format(r=r, **who), str(r), pairs)


def plain_two_plan(rng):
    """A two-step expression as it is written, and the steps in the order they are worked."""
    a, b, c = number(rng), number(rng), number(rng)
    s, t = rng.randint(2, 9), rng.randint(2, 12)
    o, p = rng.choice("+-"), rng.choice("+-")
    return rng.choices(
        [
            ([a, o, b, p, c], [(o, a, b), (p, None, c)]),
            ([s * t, "/", s, p, c], [("/", s * t, s), (p, None, c)]),
            ([s, "*", "(", t, o, a % 10, ")"], [(o, t, a % 10), ("*", s, None)]),
            ([s, "*", t, "*", a % 9 + 1], [("*", s, t), ("*", None, a % 9 + 1)]),
            ([s, "*", t, p, c], [("*", s, t), (p, None, c)]),
            ([a, p, s, "*", t], [("*", s, t), (p, a, None)]),
            (["(", s, o, t, ")", "*", a % 9 + 1], [(o, s, t), ("*", None, a % 9 + 1)]),
            (["(", b % 100, o, a % 100, ")", "*", t % 9 + 1], [(o, b % 100, a % 100), ("*", None, t % 9 + 1)]),
        ],
        weights=[58, 5, 5, 4, 12, 12, 5, 5],
    )[0]


def show(parts, signs=SYMBOL):
    text = " ".join(str(signs.get(p, p)) for p in parts)
    return text.replace("( ", "(").replace(" )", ")")


def plain_two(rng):
    while True:
        parts, steps = plain_two_plan(rng)
        done = chain(steps)
        if done:
            break
    lines, pairs, r = done
    signs = {op: spell(rng, op) for op in "+-*/"} if "(" not in parts else {"*": rng.choice("*×x")}
    expr = show(parts, signs)
    if rng.random() < 0.3 and not any(c.isalpha() and c != "x" for c in expr):
        expr = expr.replace(" ", "")
    return Sample("two:plain", ask(rng, expr), lines, f"{show(parts)} = {r}", str(r), pairs)


def two_compare(rng):
    """Which is larger, an expression or a number."""
    while True:
        op = rng.choice("+-*")
        a, b = (rng.randint(2, 9), rng.randint(2, 12)) if op == "*" else (number(rng), number(rng))
        done = chain([(op, a, b)])
        if done:
            break
    lines, pairs, r = done
    c = max(0, r + rng.choice([-1, 1]) * rng.choice([1, 2, 5, 10, 40])) if rng.random() < 0.5 else number(rng)
    if c == r:
        c += 1
    more, best = work_cmp(r, c)
    expr = f"{a} {SYMBOL[op]} {b}"
    prompt = f"Which is larger, {a} {rng.choice(SPELLED[op][:2])} {b} or {c}?"
    answer = f"{expr} = {r} is larger than {c}." if r > c else f"{c} is larger than {expr} = {r}."
    return Sample("two:?", prompt, lines + more, answer, str(best), pairs + [(r, c)])


# ---- talk --------------------------------------------------------------------------------------

ABOUT = "I am tiny-r1, a very small model. I can do small arithmetic."
LIMIT = "I only know small arithmetic. Try something like 348 + 275."
TALK = [
    (["Hello", "Hello!", "Hi", "Hi!", "hi", "hello", "Hey", "hey", "Good morning", "Good day!", "Hi there", "Hello there!"], "The user says hello.", "Hello! Ask me a small arithmetic question."),
    (["Who are you?", "who are you?", "Hello, who are you?", "Hi, who are you?", "who are you", "What are you?", "What is your name?", "Are you a model?", "Tell me about yourself."], "The user asks who I am.", ABOUT),
    (["Thanks", "Thanks!", "Thank you", "Thank you!", "thanks", "Great, thanks!"], "The user says thanks.", "You are welcome!"),
    (["Bye", "Bye!", "Goodbye", "See you later!"], "The user says goodbye.", "Goodbye!"),
    (["What can you do?", "what can you do", "Help", "help", "How can you help me?"], "The user asks what I can do.", "I can add, subtract, multiply, divide and compare small numbers, in one or two steps."),
    (["How are you?", "how are you", "How do you do?"], "The user asks how I am.", "I am fine, thank you. Ask me a small arithmetic question."),
]
STRANGE = [
    "What is the capital of {w}?", "Tell me a story about {w}.", "Write a poem about {w}.", "Who was {w}?", "Translate {w} into French.",
    "What do you think about {w}?", "Explain {w}.", "{w}", "{w} {v}", "Why is {w} {v}?", "How does {w} work?", "Write a program that does {w}.",
    "{w} {v} {w}", "Do you like {w}?", "What is {w}?", "What is the weather in {w}?", "Give me a recipe for {w}.",
]
WORDS = ["France", "the sea", "music", "a dog", "history", "Python", "love", "the moon", "bread", "chess", "water", "a computer", "time", "Berlin", "a cat", "rain"]
SYSTEM = ["You are a helpful assistant.", "You are a helpful assistant.", "Be brief.", "You are tiny-r1.", "Answer the question.", "You are a careful math tutor.", "Think step by step."]


def talk(rng):
    asks, thought, answer = rng.choice(TALK)
    return Sample("talk", rng.choice(asks), [thought], answer)


def noise_word(rng):
    """A word of the list, random letters, or any text at all, so that every byte is seen."""
    u = rng.random()
    if u < 0.4:
        return rng.choice(WORDS)
    if u < 0.8:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(rng.randint(2, 9)))
    return "".join(chr(rng.choice([rng.randint(33, 47), rng.randint(58, 126), rng.randint(161, 0x5FF), rng.randint(0x3041, 0x30FF), rng.randint(0x4E00, 0x9FA5), rng.randint(0x1F300, 0x1F6FF)])) for _ in range(rng.randint(1, 5)))


def strange(rng):
    prompt = rng.choice(STRANGE).format(w=noise_word(rng), v=noise_word(rng))
    return Sample("limit", prompt, ["This is not small arithmetic."], LIMIT)


def too_large(rng):
    op = rng.choice("+-*/")
    big = rng.randint(1000, 10 ** rng.randint(4, 8))
    a, b = swap(rng, big, rng.choice([number(rng), rng.randint(1000, 99999)]))
    if op == "*" and rng.random() < 0.5:
        a, b = rng.randint(13, 99) if rng.random() < 0.5 else rng.randint(13, 999), rng.randint(13, 999)
    return Sample("limit", ask(rng, join_expr(rng, [a, spell(rng, op), b])), ["These numbers are too large for me."], LIMIT)


def too_far(rng):
    """Arithmetic, but of a kind the model isn't taught."""
    a, b, c, d = (number(rng) for _ in range(4))
    o, p, q = (spell(rng, rng.choice("+-*")) for _ in range(3))
    many = join_expr(rng, [a, o, b, p, c, q, d] + ([o, number(rng)] if rng.random() < 0.4 else []))
    other = rng.choice([
        f"-{a} + {b}", f"{a}.{b % 10} + {c}", f"{a} + {b}.{c % 10}", f"{a} * -{b % 10}", f"{a}% of {b}", f"{a % 20}^{b % 10}",
        f"sqrt({a})", f"{a % 20}!", f"{a}/{b} + {c}/{d}", f"{a % 99} squared", f"log({a})", f"x + {a} = {b}",
    ])
    if rng.random() < 0.5:
        return Sample("limit", ask(rng, many), ["This takes too many steps for me."], LIMIT)
    return Sample("limit", ask(rng, other), ["This is not small arithmetic."], LIMIT)


def by_zero(rng):
    a = number(rng)
    prompt = ask(rng, join_expr(rng, [a, spell(rng, "/"), 0]))
    return Sample("limit", prompt, [f"{a}÷0", "Dividing by zero has no result."], "I cannot divide by zero.")


def follow_up(rng):
    """A second turn that goes on from the answer of the first."""
    first = plain_one(rng)
    while first.kind in ("one:/", "one:?") or not 0 <= int(first.value) <= 999:
        first = plain_one(rng)
    r, op, b = int(first.value), rng.choice("+-"), number(rng)
    if op == "-" and b > r:
        op = "+"
    prompt = rng.choice({"+": ["Now add {b}.", "Add {b} to that.", "And plus {b}?"], "-": ["Now subtract {b}.", "Take {b} from that.", "And minus {b}?"]}[op]).format(b=b)
    lines, total = WORK[op](r, b)
    sample = Sample("follow", prompt, lines, f"{r} {op} {b} = {total}", str(total), first.pairs + [(r, b)])
    sample.history = [(first.prompt, first.answer)]
    return sample


# ---- the mixture -------------------------------------------------------------------------------

ONE_STEP = [(plain_one, 24), (plain_compare, 6), (story_one, 10), (story_compare, 2)]
TWO_STEP = [(plain_two, 24), (story_two, 18), (two_compare, 5)]
# Training only: what is rare above and would be learnt last.
PRACTICE = [(story_compare, 5), (division, 14), (below_zero, 3), (close_difference, 3)]
OTHER = [(follow_up, 4), (talk, 2), (strange, 2.5), (too_large, 1.5), (too_far, 1.5), (by_zero, 0.25)]


def draw(rng, mixture):
    makers, weights = zip(*mixture)
    return rng.choices(makers, weights=weights)[0](rng)


def decorate(rng, sample):
    """Now and then puts a system prompt or an earlier turn in front."""
    if rng.random() < 0.06:
        sample.system = rng.choice(SYSTEM)
    if not sample.history and rng.random() < 0.06:
        earlier = draw(rng, ONE_STEP + OTHER[1:])
        sample.history = [(earlier.prompt, earlier.answer)]
        sample.pairs = sample.pairs + earlier.pairs
    if rng.random() < 0.3:
        # Servers that keep the blank line after </think> send it back with the history.
        sample.history = [(q, "\n\n" + a) for q, a in sample.history]
    return sample


def train_sample(rng):
    while True:
        sample = decorate(rng, draw(rng, ONE_STEP + TWO_STEP + OTHER + PRACTICE))
        if not is_test(sample):
            return sample


def test_sample(rng, mixture):
    while True:
        sample = draw(rng, mixture)
        if is_test(sample):
            return sample
