// Light and dark, and copying: a function that the page calls once. What it needs is found by its class, whenever Gradio puts it there.
() => {
  const KEY = "sfumato-mode";
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const asked = new URLSearchParams(location.search).get("__theme"); // Gradio's own way, which wins
  let chosen = asked === "dark" || asked === "light" ? asked : null;
  try {
    chosen = chosen || localStorage.getItem(KEY);
  } catch {
    // a browser may forbid it; then the choice lasts as long as the page
  }
  const own = () => (system.matches ? "dark" : "light");
  const mode = () => (chosen === "dark" || chosen === "light" ? chosen : own());

  // Gradio sets the class by the system when it starts and whenever the system changes, so ours is put back after it
  const show = () => {
    const dark = mode() === "dark";
    if (document.body.classList.contains("dark") !== dark) document.body.classList.toggle("dark", dark);
    document.documentElement.style.colorScheme = mode();
    for (const button of document.querySelectorAll(".sf-mode")) {
      button.setAttribute("aria-pressed", String(dark));
      button.title = dark ? "Change to light" : "Change to dark";
    }
  };
  new MutationObserver(show).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  // the switch may be there only later
  const wait = new MutationObserver(() => {
    if (document.querySelector(".sf-mode")) {
      wait.disconnect();
      show();
    }
  });
  wait.observe(document.body, { childList: true, subtree: true });
  show();
  system.addEventListener("change", show);

  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // without https, and not on this machine, only the old way is left
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  };
  // on a phone the pictures are far below the form
  document.addEventListener("click", (event) => {
    if (!(event.target instanceof Element) || !event.target.closest("#make") || !window.matchMedia("(max-width: 720px)").matches) return;
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    document.querySelector("#tiles")?.scrollIntoView({ block: "start", behavior: still ? "auto" : "smooth" });
  });

  // what folds away says whether it is open, which Gradio shows by an arrow alone
  const folded = (event) => {
    const button = event.target instanceof Element ? event.target.closest(".label-wrap") : null;
    if (button) setTimeout(() => button.setAttribute("aria-expanded", String(button.classList.contains("open"))));
  };
  document.addEventListener("focusin", folded);
  document.addEventListener("click", folded);

  // a browser stops at whatever scrolls, so that leaving a menu of many names would take a second Tab, to nowhere
  document.addEventListener("keydown", (event) => {
    if (event.key === "Tab") for (const list of document.querySelectorAll("div.options, .option-list")) list.tabIndex = -1;
  }, true);

  document.addEventListener("click", async (event) => {
    const button = event.target instanceof Element ? event.target.closest(".sf-mode, .sf-copy") : null;
    if (!button) return;
    if (button.classList.contains("sf-mode")) {
      chosen = mode() === "dark" ? "light" : "dark";
      if (chosen === own()) chosen = null; // what the system has anyway is not held on to, so that the page follows it again
      try {
        if (chosen) localStorage.setItem(KEY, chosen);
        else localStorage.removeItem(KEY);
      } catch {
        // as above
      }
      show();
      return;
    }
    const code = button.parentElement.querySelector("code");
    if (!code) return;
    await copy(code.textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1600);
  });
}
