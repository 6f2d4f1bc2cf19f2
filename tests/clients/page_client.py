"""Drives the page of `serve --ui` in a browser without a window: the key, a chat, the stop button, the tiers.

usage: page_client.py build/bin/moraine models/tiny-r1 [SCREENSHOT.png]     (needs chromium: apt-get install chromium)
"""

import re
import shutil
import sys
from importlib.metadata import version

from playwright.sync_api import expect, sync_playwright

from served import KEY, check, serving


def browser_path():
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    check("a browser", found, found or "none found; apt-get install chromium")
    return found


def ask(page, question):
    page.get_by_label("Question").fill(question)
    page.keyboard.press("Enter")


def drive(page, url, outside, complaints):
    page.goto(url)
    expect(page.locator("#key")).to_be_visible()
    check("asks for the key", "key" in page.locator("#state").inner_text())
    complaints.clear()  # the browser notes the 401s
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Use key").click()
    expect(page.locator("#key")).to_be_hidden()
    expect(page.locator("#model")).to_have_text("tiny-r1")
    tiers = page.locator(".tier").all_inner_texts()
    check("three tiers", len(tiers) == 3 and "RAM" in tiers[1] and " of " in tiers[1], [tier.split("\n")[:2] for tier in tiers])

    ask(page, "What is 348 + 275?")
    expect(page.locator(".answer .text")).to_have_text("348 + 275 = 623")
    expect(page.locator(".answer .figures")).to_contain_text("tok/s")
    thinking = page.locator(".answer details")
    check("thinking is folded", thinking.get_attribute("open") is None and "8+5=13" in thinking.text_content())
    ask(page, "And 348 - 275?")
    expect(page.locator(".answer .text").nth(1)).to_have_text("348 - 275 = 73")
    check("figures", True, page.locator(".answer .figures").nth(1).inner_text())
    rates = page.locator("#rates")
    expect(rates).to_contain_text(re.compile(r"One answer\s*[\d.]+ tok/s"))
    expect(rates).to_contain_text("idle")
    check("rates", re.search(r"100\.0 %", rates.inner_text()), " ".join(rates.inner_text().split()))

    # What a page may not do even if a model's answer got into it as markup.
    page.evaluate("() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s); }")
    check("no other script runs", page.evaluate("() => window.ran") is None)
    complaints.clear()


def stop(page):
    page.get_by_role("button", name="New chat").click()
    check("a new chat is empty", page.locator("#talk > div").count() == 0)
    # Held up on its way, so that there is something to stop.
    page.route("**/v1/chat/completions", lambda route: None)
    ask(page, "What is 5 + 4?")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".answer .figures")).to_have_text("stopped")
    page.unroute("**/v1/chat/completions")
    ask(page, "What is 5 + 4?")
    expect(page.locator(".answer .text").nth(1)).to_have_text("5 + 4 = 9")
    check("stopped, and asked again", True)


def main():
    outside, complaints = [], []
    with serving("--ui") as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        print(f"playwright {version('playwright')}, browser {browser.version}, {url}", flush=True)
        page = browser.new_page(viewport={"width": 1180, "height": 720})
        page.on("request", lambda request: None if request.url.startswith((url, "data:")) else outside.append(request.url))
        page.on("console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        drive(page, url, outside, complaints)
        if len(sys.argv) > 3:
            page.screenshot(path=sys.argv[3])
        stop(page)
        check("nothing from elsewhere", not outside, outside)
        check("no complaint of the browser", not complaints, complaints)
        browser.close()


main()
