// The controls of a forward process: one value for all of them. What a class has to turn is in props.menu; nothing is known here of any
// class. The value is set as a whole, so that the server sees positions that belong together.
const menu = props.menu;
let state, timer;

const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === 'on') for (const [name, heard] of Object.entries(value)) node.addEventListener(name, heard);
    else if (key in node && key !== 'list' && key !== 'form') node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
};

const told = () => {
  clearTimeout(timer);
  // a slider that is dragged says a lot; the figure follows the last of it
  timer = setTimeout(() => { props.value = structuredClone(state); trigger('input'); }, 70);
};

const STEPS = 200;
const rounded = (v) => Number(v.toPrecision(3));
const toPlace = (c, v) => {
  if (c.log) return Math.round(STEPS * Math.log(v / c.least) / Math.log(c.most / c.least));
  return c.whole ? v : Math.round(STEPS * (v - c.least) / (c.most - c.least));
};
const toValue = (c, place) => {
  let v = c.log ? c.least * (c.most / c.least) ** (place / STEPS) : c.whole ? place : c.least + (c.most - c.least) * place / STEPS;
  v = c.whole ? Math.round(v) : rounded(v);
  return Math.min(c.most, Math.max(c.least, v));
};

// a number: its name, a field, a slider, and, where it may be left alone, a box
const number = (c, at, get, set, id) => {
  const name = make('label', { className: 'sf-k-name', htmlFor: id }, c.label || c.name);
  const field = make('input', { type: 'number', className: 'sf-k-field', step: 'any', min: c.least, max: c.most, 'aria-label': `${at} ${c.label || c.name}, as a number` });
  const slider = make('input', { type: 'range', id, className: 'sf-k-range', step: 1, min: c.whole && !c.log ? c.least : 0, max: c.whole && !c.log ? c.most : STEPS });
  const box = c.off && make('input', { type: 'checkbox', id: `${id}-set` });
  const show = () => {
    const v = get(), off = v === null || v === undefined;
    slider.disabled = field.disabled = off;
    if (box) box.checked = !off;
    if (!off) { slider.value = toPlace(c, v); field.value = v; } else { field.value = ''; }
    field.placeholder = off ? c.off : '';
    slider.setAttribute('aria-valuetext', off ? c.off : String(v));
    slider.setAttribute('aria-label', `${at} ${c.label || c.name}`);
  };
  slider.addEventListener('input', () => {
    let v = toValue(c, Number(slider.value));
    // where whole numbers lie closer than the slider's places, a key still moves it
    set(v); field.value = v; slider.setAttribute('aria-valuetext', String(v)); told();
  });
  field.addEventListener('change', () => {
    const v = Number(field.value);
    if (field.value === '' || !Number.isFinite(v)) { show(); return; }
    set(Math.min(c.most, Math.max(c.least, c.whole ? Math.round(v) : v))); show(); told();
  });
  if (box) box.addEventListener('change', () => { set(box.checked ? c.start : null); show(); told(); });
  show();
  const left = box ? make('span', { className: 'sf-k-set' }, box, make('label', { htmlFor: box.id }, c.label || c.name)) : name;
  return make('div', { className: 'sf-k-row' }, left, field, slider);
};

const chooser = (label, id, options, value, heard, about) => {
  const select = make('select', { id, className: 'sf-k-select' },
    ...options.map(([said, shown]) => make('option', { value: said }, shown)));
  select.value = value;
  select.addEventListener('change', () => heard(select.value));
  return make('div', { className: 'sf-k-part' }, make('label', { className: 'sf-k-label', htmlFor: id }, label), select);
};

const begins = (name) => {
  const args = {};
  for (const c of menu.classes[name] || []) {
    if (c.type === 'number') args[c.name] = c.begins;
    else if (c.type === 'part') args[c.name] = { name: c.start, args: begins(c.start) };
    else args[c.name] = c.start;
  }
  return args;
};

// what a class has to turn
const controls = (name, args, at, id) => {
  const rows = (menu.classes[name] || []).map((c) => {
    const here = `${id}-${c.name}`;
    if (!(c.name in args)) args[c.name] = begins(name)[c.name];
    const set = (v) => { args[c.name] = v; };
    if (c.type === 'number') return number(c, at, () => args[c.name], set, here);
    if (c.type === 'switch') {
      const box = make('input', { type: 'checkbox', id: here, checked: args[c.name] });
      box.addEventListener('change', () => { set(box.checked); told(); });
      return make('div', { className: 'sf-k-row sf-k-set' }, box, make('label', { htmlFor: here }, c.name));
    }
    if (c.type === 'choice') {
      const group = make('fieldset', { className: 'sf-k-words', id: here }, make('legend', {}, c.name));
      for (const word of c.words) {
        const box = make('input', { type: 'radio', name: here, id: `${here}-${word}`, value: word, checked: args[c.name] === word });
        box.addEventListener('change', () => { set(word); told(); });
        group.append(make('span', { className: 'sf-k-set' }, box, make('label', { htmlFor: box.id }, word)));
      }
      return group;
    }
    if (c.type === 'list') {
      const field = make('input', { type: 'text', id: here, className: 'sf-k-text', value: args[c.name], spellcheck: false });
      field.addEventListener('input', () => { set(field.value); told(); });
      return make('div', { className: 'sf-k-part' }, make('label', { className: 'sf-k-label', htmlFor: here }, `${c.name}, from data to noise or as levels fall`), field);
    }
    return part(c.kind, c.name, args[c.name], here, { nested: true, same: c.kind === 'schedule' });
  });
  return make('div', { className: 'sf-k-rows' }, ...rows);
};

// a menu of classes, and below it what the chosen one has to turn
const part = (kind, label, value, id, { nested = false, same = false, none = '', own = '' } = {}) => {
  const names = (nested ? menu.nested[kind] : menu.kinds[kind]).map((n) => [n, n]);
  if (own) names.push(['', `as it was: ${own}`]);
  if (same) names.unshift([menu.same, menu.same]);
  if (none) names.unshift([none, none]);
  const about = make('p', { className: 'sf-k-about', id: `${id}-about` });
  const below = make('div');
  const fill = () => {
    about.textContent = menu.about[value.name] || '';
    below.replaceChildren(...(kind === 'sampler' ? [] : [controls(value.name, value.args, label, id)]));
  };
  const head = chooser(label, id, names, value.name, (name) => {
    value.name = name; value.args = begins(name); fill(); told();
  });
  head.querySelector('select').setAttribute('aria-describedby', about.id);
  fill();
  return make('div', { className: 'sf-k-box' }, head, about, below);
};

const wrappers = (wraps, id) => make('div', { className: 'sf-k-wraps' }, ...menu.wrappers.map((name) => {
  const here = `${id}-${name}`, below = make('div');
  const box = make('input', { type: 'checkbox', id: here, checked: wraps[name] !== null && wraps[name] !== undefined });
  const fill = () => below.replaceChildren(...(box.checked ? [controls(name, wraps[name], name, here)] : []));
  box.addEventListener('change', () => { wraps[name] = box.checked ? { ...begins(name), ...around[name] } : null; fill(); told(); });
  fill();
  return make('div', {}, make('div', { className: 'sf-k-set', title: menu.about[name] }, box, make('label', { htmlFor: here }, menu.called[name])), below);
}));
// a cut that cuts nothing shows nothing
const around = { Truncated: { log_snr_min: -9 } };

const beside = (slot) => {
  const box = make('div', { className: 'sf-k-slot' });
  const at = () => state.also[slot];
  const fill = () => {
    const id = `sk-also-${slot}`, there = at();
    const names = [['none', 'nothing'], ...menu.kinds.schedule.map((n) => [n, n]), ['', `as it was: ${state.own.schedule}`]];
    const head = chooser(slot ? 'and' : 'Beside it', id, names, there ? there.schedule.name : 'none', (name) => {
      if (name === 'none') state.also.splice(slot, 1);
      else {
        const wraps = Object.fromEntries(menu.wrappers.map((w) => [w, null]));
        state.also[slot] = { schedule: { name, args: begins(name) }, wraps: there ? there.wraps : wraps };
      }
      slots(id); told();
    });
    box.replaceChildren(head);
    if (there) box.append(make('p', { className: 'sf-k-about' }, menu.about[there.schedule.name] || ''),
      controls(there.schedule.name, there.schedule.args, 'beside it', id), wrappers(there.wraps, id));
  };
  fill();
  return box;
};
let room;
const slots = (focus) => {
  const count = Math.min(menu.beside, state.also.length + 1);
  room.replaceChildren(...Array.from({ length: count }, (_, k) => beside(k)));
  const again = focus && element.querySelector(`#${focus}`);
  if (again) again.focus();
};

const draw = () => {
  const root = element.querySelector('.sf-knobs');
  if (!root) return;
  if (!props.value || !props.value.schedule) { root.replaceChildren(); return; }
  state = structuredClone(props.value);
  const set = (key) => (v) => { state[key] = v; };
  const top = (key) => number(menu.beyond[key], '', () => state[key], set(key), `sk-${key}`);
  room = make('div');
  const section = (title, ...children) => make('section', { className: 'sf-k-section' }, make('h3', {}, title), ...children);
  root.replaceChildren(
    section('The path from data to noise', part('schedule', 'Schedule', state.schedule, 'sk-schedule', { own: state.own.schedule }),
      wrappers(state.wraps, 'sk-wraps'), room),
    section('How it is trained', part('row', 'Prediction', state.row, 'sk-row', { own: state.own.row }),
      part('density', 'Density of noise levels', state.density, 'sk-density', { own: state.own.density }),
      part('weighting', 'Weighting', state.weighting, 'sk-weighting', { own: state.own.weighting }), top('input_std')),
    section('How it is sampled', part('grid', 'Grid', state.grid, 'sk-grid', { own: state.own.grid }), top('steps'),
      part('sampler', 'Sampler', state.sampler, 'sk-sampler', { own: state.own.sampler }), top('size')),
  );
  slots();
};
watch('value', draw);
draw();
