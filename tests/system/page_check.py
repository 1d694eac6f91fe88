"""Uses the page of `cohort serve` in a browser, as a person would.

  page_check.py text|user|picture|number URL BUNDLE FOLDER     a screenshot goes to FOLDER/KIND.png
"""
import base64
import json
import os
import pathlib
import shutil
import sys
import urllib.request

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

SECONDS = 30 * int(os.environ.get("COHORT_PATIENCE", "1"))
# A picture is dropped on its field: what a browser sends when a file is let go over it.
DROP = """
const [field, text] = arguments, bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const what = new DataTransfer();
what.items.add(new File([bytes], "dropped.png", {type: "image/png"}));
field.dispatchEvent(new DragEvent("drop", {dataTransfer: what, bubbles: true, cancelable: true}));
"""


def open_browser():
    options = webdriver.ChromeOptions()
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                   "--window-size=1200,900", "--force-color-profile=srgb"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))


class Page:
    def __init__(self, browser, url):
        self.browser, self.url = browser, url
        browser.get(url)
        self.until(lambda: self.element("#go").is_enabled(), "the form can be used")

    def element(self, css):
        return self.browser.find_element(By.CSS_SELECTOR, css)

    def until(self, what, text):
        WebDriverWait(self.browser, SECONDS).until(lambda _: what(), f"not so: {text}; " + self.answer())

    def answer(self):
        return self.element("#answer").text

    def field(self, column):
        return self.browser.find_element(By.ID, "in:" + column)

    def wait_for(self, state):
        self.until(lambda: self.element("#answer").get_attribute("data-state") == state and
                   self.element("#go").is_enabled(), f"the answer is {state}")


def served(url, row, top=0):
    body = json.dumps({"row": row, **({"top": top} if top else {})}).encode()
    request = urllib.request.Request(url + "/v1/score", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=SECONDS) as reply:
        return json.load(reply)["answers"][0]


def expect(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")


def use_text(page, row):
    page.field("text").send_keys("not a dull moment, a fine film: naïve, 100 %")
    page.element("#go").click()
    page.wait_for("done")
    answer = served(page.url, {"text": "not a dull moment, a fine film: naïve, 100 %"})
    shown = page.answer()
    expect(shown.startswith(answer["label"]), f"{answer} is shown as {shown}")
    expect(f"{100 * max(answer['probabilities']):.1f}%" in shown, f"{answer} is shown as {shown}")
    page.element("#example").click()
    page.wait_for("done")
    expect(page.field("text").get_attribute("value") == row["text"], "the example is not filled in")
    page = Page(page.browser, page.url + "/?text=a+fine+film")
    page.wait_for("done")
    expect(page.field("text").get_attribute("value") == "a fine film", "a link does not fill in")


def use_picture(page, row):
    field = page.element(".drop")
    page.browser.execute_script(DROP, field, row["image"])
    page.wait_for("done")
    answer = served(page.url, {"image": row["image"]})
    expect(page.answer().startswith(answer["label"]), f"{answer} is shown as {page.answer()}")
    preview = page.browser.find_element(By.ID, "preview:image")
    expect(preview.is_displayed() and int(preview.get_property("naturalWidth")) > 0, "no preview")
    file = pathlib.Path(sys.argv[4]) / "broken.png"
    file.write_bytes(base64.b64decode(row["image"])[:40])
    page.field("image").send_keys(str(file))
    page.wait_for("error")
    file.write_bytes(base64.b64decode(row["image"]))
    page.field("image").clear()
    page.field("image").send_keys(str(file))
    page.wait_for("done")


def use_user(page, row):
    page.field("user").send_keys(row["user"])
    page.element("#top").clear()
    page.element("#top").send_keys("3")
    page.element("#go").click()
    page.wait_for("done")
    items = [item["item"] for item in served(page.url, {"user": row["user"]}, 3)["items"]]
    shown = [cell.text for cell in page.browser.find_elements(By.CSS_SELECTOR, "#answer th")]
    expect(len(items) == 3 and shown == items, f"{items} are shown as {shown}")
    page.field("user").clear()
    page.field("user").send_keys("nobody, whom no one knows")
    page.element("#go").click()
    page.wait_for("error")
    expect("nobody, whom no one knows" in page.answer(), f"{page.answer()} does not name the user")
    page.field("user").clear()
    page.field("user").send_keys(row["user"])
    page.element("#go").click()
    page.wait_for("done")


def use_number(page, row):
    """Of (stars - 1) / 4 the stars are shown; tensors get both."""
    page.field("size").send_keys(str(row["size"]))
    page.element("#go").click()
    page.wait_for("done")
    answer = served(page.url, row)
    stars = answer["prediction"][0] * 4 + 1
    expect(abs(answer["value"][0] - stars) < 1e-9 * max(1, abs(stars)), f"{answer} is not in stars")
    expect(float(page.answer()) == float(f"{stars:.6g}"), f"{answer} is shown as {page.answer()}")
    name = pathlib.Path(sys.argv[3]).name
    tensor = {"name": "size", "datatype": "FP32", "shape": [1], "data": [float(row["size"])]}
    request = urllib.request.Request(f"{page.url}/v2/models/{name}/infer",
                                     json.dumps({"inputs": [tensor]}).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=SECONDS) as reply:
        outputs = {t["name"]: t["data"] for t in json.load(reply)["outputs"]}
    expect(abs(outputs["value"][0] - stars) < 1e-5 * max(1, abs(stars)), f"{outputs} is not in stars")
    expect(abs(outputs["prediction"][0] - answer["prediction"][0]) < 1e-6, f"{outputs}, {answer}")


def main():
    kind, url, bundle, folder = sys.argv[1], sys.argv[2].rstrip("/"), sys.argv[3], sys.argv[4]
    with open(f"{bundle}/golden.jsonl") as lines:
        row = json.loads(lines.readline())
    row = row["raw"]
    digest = pathlib.Path(bundle, "MANIFEST.sha256").read_text()[:64]
    browser = open_browser()
    try:
        page = Page(browser, url)
        {"text": use_text, "picture": use_picture, "user": use_user,
         "number": use_number}[kind](page, row)
        expect("Answered in" in page.element("#latency").text, "no latency")
        expect(digest in page.element("#lineage").text, "no digest in the lineage")
        browser.save_screenshot(f"{folder}/{kind}.png")
        expect(not page.browser.execute_script(
            "return performance.getEntriesByType('resource').filter((r) => !r.name.startsWith(arguments[0]))"
            ".length", url), "the page fetches from elsewhere")
        severe = [entry["message"] for entry in browser.get_log("browser")
                  if entry["level"] == "SEVERE" and "400" not in entry["message"]]
        expect(not severe, f"the browser's console: {severe}")
    finally:
        browser.quit()


main()
