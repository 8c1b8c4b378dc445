"""The JavaScript package in Chromium, from the service's own files: many rows, alone and in batches, with the service's bits."""

from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.live import live
from tests.programs import command_of
from tests.service.server.web.browser.everywhere import Made, good_bodies, make_models, service_results

RUN = """
async ([folder, calls]) => {
  const assets = document.querySelector("script[type=module]").src.replace(/try\\/page\\.js$/, "");
  const [{ load }, ort] = await Promise.all([import(`${assets}browser/index.js`), import(`${assets}vendor/onnxruntime-web/ort.wasm.min.mjs`)]);
  const model = await load(folder, { ort });
  const answers = [];
  for (const { rows, ...options } of calls) answers.push((await model.predict(rows, options)).predictions);
  await model.close();
  return answers;
}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, penguins_bundle: Path) -> Made:
    """Train the models; without Chromium there is nothing to train them for."""
    command_of()
    return make_models(tmp_path_factory.mktemp("everywhere"), penguins_bundle)


def test_exact_models_have_the_bits_of_the_service(made: Made) -> None:
    """Under the policy of the page Try, each exact model gives in the browser what the service answers."""
    bodies = {name: good_bodies(folder) for name, folder in made.exact.items()}
    expected = service_results(made.models, bodies)
    with live(made.models) as server, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=command_of(), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{server.url}/models/penguins/try")
        for name, calls in bodies.items():
            found = page.evaluate(RUN, [f"/models/{name}/versions/1/bundle/", calls])
            assert [{"answer": answer} for answer in found] == expected[name], name
        browser.close()
