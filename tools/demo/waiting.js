// Gradio says how many are before one in its own few signs; here they become a sentence.
const place = element.closest(".block") || element.parentElement;
const said = document.createElement("p");
said.className = "sf-waiting";
said.setAttribute("role", "status");
said.setAttribute("aria-live", "polite");
place.append(said);
const look = () => {
  const text = (place.querySelector(".progress-text") || {}).textContent || "";
  const found = /queue:\s*(\d+)\s*\//.exec(text);
  const before = found ? Number(found[1]) : 0;
  const words = before > 0 ? `Waiting: ${before} before you.` : "";
  if (said.textContent !== words) said.textContent = words;
};
new MutationObserver(look).observe(place, { childList: true, subtree: true, characterData: true });
