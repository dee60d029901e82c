// Search: the only script of the site. It loads the index when the field is used for the first time.
'use strict';
(() => {
  const root = document.documentElement.dataset.root;
  const field = document.getElementById('search');
  const results = document.getElementById('results');
  const limit = 12;
  field.hidden = false;

  const load = () => {
    if (load.started) return;
    load.started = true;
    const script = document.createElement('script');
    script.src = root + 'search-index.js';
    script.onload = show;
    document.head.append(script);
  };

  // score is 0 if a word is missing. A hit in the title or the heading counts more than one in the text.
  const score = (entry, words) => {
    const [title, heading, text] = [entry.title, entry.heading, entry.text].map((part) => part.toLowerCase());
    let sum = 0;
    for (const word of words) {
      const points = (heading.includes(word) ? 8 : 0) + (title.includes(word) ? 4 : 0) + (text.includes(word) ? 1 : 0);
      if (points === 0) return 0;
      sum += points;
    }
    return sum;
  };

  const excerpt = (text, word) => {
    const at = Math.max(0, text.toLowerCase().indexOf(word) - 40);
    return (at > 0 ? '… ' : '') + text.slice(at, at + 140) + (at + 140 < text.length ? ' …' : '');
  };

  const link = ({page, title, anchor, heading, text}, words) => {
    const a = document.createElement('a');
    a.href = root + page + '#' + anchor;
    const name = document.createElement('strong');
    name.textContent = heading === title ? title : title + ': ' + heading;
    const context = document.createElement('span');
    context.textContent = excerpt(text, words[0]);
    a.append(name, context);
    return a;
  };

  const show = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    results.hidden = words.length === 0;
    if (words.length === 0 || !window.searchIndex) return;
    const found = window.searchIndex
      .map((entry) => [score(entry, words), entry])
      .filter(([points]) => points > 0)
      .sort(([a], [b]) => b - a)
      .slice(0, limit);
    const nothing = document.createElement('p');
    nothing.textContent = 'Nothing found.';
    results.replaceChildren(...(found.length ? found.map(([, entry]) => link(entry, words)) : [nothing]));
  };

  const close = () => { results.hidden = true; };

  field.addEventListener('focus', () => { load(); show(); });
  field.addEventListener('input', () => { load(); show(); });
  results.addEventListener('click', close);
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') close();
    if (event.key === '/' && !/^(input|textarea)$/i.test(document.activeElement.tagName)) {
      event.preventDefault();
      field.focus();
    }
  });
  document.addEventListener('click', (event) => {
    if (!event.target.closest('.search')) close();
  });
})();
