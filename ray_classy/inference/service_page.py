"""The page of a service, on which a person picks an image and sees its classes."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src blob:; connect-src 'self'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
}

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>ray_classy</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 40rem; padding: 0 1rem }
  img[hidden] { display: none }
  img { max-height: 16rem; max-width: 100%; margin: 1rem 0; display: block }
  td { padding: 0 1rem 0 0 }
  meter { width: 12rem }
</style>
<h1>Classify an image</h1>
<label>Image: <input type="file" id="file" accept="image/*"></label>
<img id="image" alt="" hidden>
<p id="message" role="status"></p>
<table id="classes"></table>
<script>
  const at = id => document.getElementById(id);
  at("file").addEventListener("change", async () => {
    const file = at("file").files[0];
    if (!file) return;
    at("classes").replaceChildren();
    URL.revokeObjectURL(at("image").src);
    at("image").src = URL.createObjectURL(file);
    at("image").hidden = false;
    at("message").textContent = "...";
    try {
      const url = location.pathname.replace(/[/]$/, "") + "/predict";
      const answer = await fetch(url, { method: "POST", body: file });
      const found = await answer.json();
      at("message").textContent = answer.ok ? found.prediction : found.error;
      for (const one of found.topk || []) {
        const row = at("classes").insertRow();
        row.insertCell().textContent = one.label;
        const meter = document.createElement("meter");
        meter.value = one.score;
        row.insertCell().append(meter);
        row.insertCell().textContent = (100 * one.score).toFixed(1) + " %";
      }
    } catch (error) {
      at("message").textContent = "the service does not answer: " + error;
    }
  });
</script>
</html>
"""
