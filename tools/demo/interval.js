// Two handles on one axis. The page's value is [low, high] in log-SNR; an end of the axis is -end or +end, which means none.
const find = (name) => element.querySelector(name);
const [low, high] = [find('.sf-low'), find('.sf-high')];
const STEP = 0.05;

const value = () => {
  const given = Array.isArray(props.value) ? props.value.map(Number) : [];
  return given.length === 2 && given.every(Number.isFinite) ? given : [-props.end, props.end];
};
const axis = () => (Array.isArray(props.axis) ? props.axis : [-10, 12.5]);
// the axis ends on whole steps, so that every position is one
const span = () => [Math.floor(axis()[0] / STEP) * STEP, Math.ceil(axis()[1] / STEP) * STEP];
const place = (x) => {
  const [a, b] = span();
  return Math.min(Math.max((x - a) / (b - a), 0), 1);
};
const round = (x, digits) => String(Number(x.toFixed(digits))).replace('-', '\u2212');
const ratio = (x) => {
  const r = Math.exp(-x / 2);
  return r >= 100 ? r.toFixed(0) : String(Number(r.toPrecision(3)));
};
const noisiest = (x) => x <= span()[0] + 1e-9;
const cleanest = (x) => x >= span()[1] - 1e-9;
const named = (x) =>
  noisiest(x) ? 'pure noise' : cleanest(x) ? 'the data' : `log-SNR ${round(x, 2)}, sigma over alpha ${ratio(x)}`;
const shortly = (x) => (noisiest(x) ? 'pure noise' : cleanest(x) ? 'the data' : `log-SNR ${round(x, 2)} (sigma over alpha ${ratio(x)})`);

// which steps are guided: by this interval where it counts, else as the rule has it by itself
const insides = () => {
  const [a, b] = value(), own = props.own || [];
  return (props.ticks || []).map((t, i) => (props.on ? (a <= -props.end || t >= a) && (b >= props.end || t < b) : own[i] !== false));
};

function sentence() {
  const ticks = props.ticks || [], guided = props.guided || [], plain = props.plain || [];
  const inside = insides(), count = inside.filter(Boolean).length;
  if (!ticks.length) return '';
  const all = !props.on && count === ticks.length;
  let words = all ? 'Guided at every noise level' : `${count} of ${ticks.length} steps are guided`;
  if (guided.length === ticks.length && plain.length === ticks.length) {
    const sum = (of) => of.reduce((x, y) => x + y, 0);
    const total = sum(guided), here = sum(inside.map((on, i) => (on ? guided[i] : plain[i])));
    // a rule that stops by itself costs less
    words += `; ${props.most ? 'at most ' : ''}${here} evaluations` + (here < total ? ` instead of ${total}` : '');
  }
  return `${words}.`;
}

function draw() {
  const [a, b] = span(), [from, to] = value();
  const on = Boolean(props.on);
  for (const [input, x] of [[low, from], [high, to]]) {
    input.min = a; input.max = b; input.step = STEP; input.disabled = !on;
    const shown = Math.min(Math.max(x, a), b);
    if (Math.abs(Number(input.value) - shown) > STEP / 2) input.value = shown;
    input.setAttribute('aria-valuetext', named(shown));
  }
  const [p, q] = [place(from), place(to)];
  const bar = find('.sf-guided');
  bar.style.setProperty('--from', p); bar.style.setProperty('--to', Math.max(q, p));
  find('.sf-interval').classList.toggle('sf-off', !on);
  find('.sf-said').textContent = sentence();
  find('.sf-from').textContent = 'noise \u00b7 ' + round(a, 1);
  find('.sf-to').textContent = round(b, 1) + ' \u00b7 data';
  find('.sf-ratios').textContent = on ? `From ${shortly(from)} to ${shortly(to)}.` : '';
  low.style.zIndex = p > 0.5 ? 3 : 1; // where both stand at an end, the one that can still move is on top
  high.style.zIndex = 2;
  const ticks = find('.sf-ticks'), levels = props.ticks || [];
  while (ticks.childElementCount > levels.length) ticks.lastElementChild.remove();
  while (ticks.childElementCount < levels.length) ticks.appendChild(document.createElement('i'));
  const inside = insides();
  levels.forEach((t, i) => {
    ticks.children[i].style.setProperty('--at', place(t));
    ticks.children[i].className = inside[i] ? 'sf-in' : '';
  });
}

function move(from, to) {
  const [a, b] = span();
  const tidy = (x) => Number(x.toFixed(2));
  props.value = [from <= a + 1e-9 ? -props.end : tidy(from), to >= b - 1e-9 ? props.end : tidy(to)];
  draw();
}

// handles meet and do not cross; the end that is not moved stays as it is, also between two places of its slider
low.addEventListener('input', () => {
  const least = Math.min(Number(low.value), Number(high.value));
  low.value = least;
  move(least, Math.max(value()[1], least));
});
high.addEventListener('input', () => {
  const most = Math.max(Number(high.value), Number(low.value));
  high.value = most;
  move(Math.min(value()[0], most), most);
});
for (const input of [low, high]) input.addEventListener('change', () => trigger('change'));

// the part between them moves as a whole
const bar = find('.sf-guided');
let held = null;
bar.addEventListener('pointerdown', (event) => {
  if (!props.on) return;
  held = { x: event.clientX, from: Number(low.value), to: Number(high.value) };
  bar.setPointerCapture(event.pointerId);
  event.preventDefault();
});
bar.addEventListener('pointermove', (event) => {
  if (!held) return;
  const [a, b] = span(), width = find('.sf-rail').getBoundingClientRect().width || 1;
  let by = ((event.clientX - held.x) / width) * (b - a);
  by = Math.round(Math.min(Math.max(by, a - held.from), b - held.to) / STEP) * STEP;
  low.value = held.from + by; high.value = held.to + by;
  move(Number(low.value), Number(high.value));
});
const leave = () => { if (held) { held = null; trigger('change'); } };
bar.addEventListener('pointerup', leave);
bar.addEventListener('pointercancel', leave);

watch(['value', 'axis', 'ticks', 'guided', 'plain', 'own', 'most', 'on'], draw);
draw();
