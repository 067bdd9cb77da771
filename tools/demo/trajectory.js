// One slider over frames that are all in the page already: nothing is asked of the server while it moves.
const state = { timer: null };

const section = () => element.querySelector('.sf-path[data-shots]');
const still = () => window.matchMedia('(prefers-reduced-motion: reduce)').matches;

function stop() {
  if (state.timer) clearInterval(state.timer);
  state.timer = null;
  const play = element.querySelector('.sf-path-play');
  if (play) { play.textContent = 'Play'; play.setAttribute('aria-pressed', 'false'); }
}

function show(k) {
  const home = section();
  if (!home) return;
  const shot = state.shots[k], slider = home.querySelector('input[type=range]');
  if (!shot) return;
  slider.value = k;
  slider.setAttribute('aria-valuetext', shot.say);
  home.querySelector('output').textContent = shot.say;
  home.style.setProperty('--sf-at', shot.at + '%');
  const cell = home.querySelector(`button[data-k="${k}"]`);
  home.querySelectorAll('.sf-path-stage img').forEach((large) => {
    const small = cell.querySelector(`.sf-path-x0[data-row="${large.dataset.row}"]`);
    large.src = small.src;
    large.alt = large.parentElement.classList.contains('sf-path-apart') ? '' : small.alt;
    large.classList.toggle('sf-path-pixels', small.classList.contains('sf-path-pixels'));
  });
  const body = home.querySelector('.sf-path-read tbody'), columns = Math.max(...shot.rows.map((row) => row.length - 1));
  body.replaceChildren(...shot.rows.map(([name, ...values]) => {
    const row = document.createElement('tr');
    row.append(Object.assign(document.createElement('th'), { textContent: name, scope: 'row' }));
    // what is the same for both paths is said once
    const span = columns - values.length + 1;
    values.forEach((value) => row.append(Object.assign(document.createElement('td'), { textContent: value, colSpan: span })));
    return row;
  }));
  // the frame itself, or the last one that is laid out before it
  let marked = null;
  home.querySelectorAll('.sf-path-strip button:not([hidden])').forEach((frame) => {
    frame.removeAttribute('aria-current');
    if (Number(frame.dataset.k) <= k) marked = frame;
  });
  if (marked) {
    marked.setAttribute('aria-current', 'step');
    const strip = marked.parentElement, left = marked.offsetLeft - strip.offsetLeft;
    if (left < strip.scrollLeft || left + marked.offsetWidth > strip.scrollLeft + strip.clientWidth) {
      strip.scrollLeft = left - strip.clientWidth / 2;
    }
  }
}

function ready() {
  stop();
  const home = section();
  if (!home) { state.shots = []; return; }
  state.shots = JSON.parse(home.dataset.shots);
  home.classList.toggle('sf-path-with-x', Boolean(state.noisy));
  home.querySelector('#path-noisy').checked = Boolean(state.noisy);
  show(state.shots.length - 1);
}

function play(button) {
  if (state.timer) { stop(); return; }
  const slider = element.querySelector('.sf-path input[type=range]'), last = state.shots.length - 1;
  let k = Number(slider.value) >= last ? 0 : Number(slider.value);
  show(k);
  button.textContent = 'Pause';
  button.setAttribute('aria-pressed', 'true');
  // who asked for less motion gets a slow series of stills
  const pause = still() ? 1200 : Math.max(60, Math.min(300, 6000 / state.shots.length));
  state.timer = setInterval(() => {
    k += 1;
    if (k > last || !element.isConnected) { stop(); return; }
    show(k);
  }, pause);
}

function scrub(event) {
  const plot = event.target.closest('.sf-path-plot');
  if (!plot || !state.shots || !(event.type === 'click' || event.buttons)) return;
  const box = plot.getBoundingClientRect(), at = 100 * (event.clientX - box.left) / box.width;
  let best = 0;
  state.shots.forEach((shot, k) => { if (Math.abs(shot.at - at) < Math.abs(state.shots[best].at - at)) best = k; });
  stop();
  show(best);
}

element.addEventListener('input', (event) => {
  if (event.target.type === 'range') { stop(); show(Number(event.target.value)); }
});
element.addEventListener('change', (event) => {
  if (event.target.id !== 'path-noisy') return;
  state.noisy = event.target.checked;
  section().classList.toggle('sf-path-with-x', state.noisy);
});
element.addEventListener('click', (event) => {
  const button = event.target.closest('.sf-path-play'), frame = event.target.closest('.sf-path-strip button');
  if (button) play(button);
  else if (frame && section()) { stop(); show(Number(frame.dataset.k)); }
  else scrub(event);
});
element.addEventListener('pointermove', scrub);
watch('value', ready);
ready();
