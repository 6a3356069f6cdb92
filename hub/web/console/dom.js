// Building blocks of the page: elements, a toast, and dialogs that wait for an answer.

/** el('a', {href: '#/', class: 'x', onclick: fn}, 'text', child): text is never read as HTML. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value !== 'string') element[name] = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Sets a text only if it differs, so that the browser does no work for texts that stay the same. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let toastTimer = 0;

export function toast(text, kind = 'info') {
  const element = document.getElementById('toast');
  element.textContent = text;
  element.dataset.kind = kind;
  element.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { element.hidden = true; }, 6000);
}

/** Shows a dialog with these children in a form; resolves to the data of the form, or null if it was cancelled. */
function ask(title, children, action, danger) {
  return new Promise((resolve) => {
    const form = el('form', { method: 'dialog' },
      el('h2', {}, title), ...children.filter(Boolean),
      el('div', { class: 'actions' },
        el('button', { type: 'button', onclick: () => dialog.close() }, 'Cancel'),
        el('button', { type: 'submit', value: 'yes', class: danger ? 'danger' : 'primary' }, action)));
    const dialog = el('dialog', {}, form);
    dialog.addEventListener('close', () => {
      resolve(dialog.returnValue === 'yes' ? new FormData(form) : null);
      dialog.remove();
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** True where the operator confirms. text: a text or an element. */
export async function confirmAction(title, text, action) {
  return (await ask(title, [el('p', {}, text)], action, true)) !== null;
}

const REASON_MAX = 123; // bytes of a close frame's reason (RFC 6455 section 5.5)

const reasonWrong = (text) => (!text.trim() ? 'Enter a reason.' : new TextEncoder().encode(text).length > REASON_MAX ? `At most ${REASON_MAX} bytes.` : '');

/** Resolves to the reason, or null if it was cancelled. A reason is required, so pressing Enter twice does not confirm. */
export async function askReason(title, children, action) {
  const input = el('input', { name: 'reason', required: true, maxlength: String(REASON_MAX), autocomplete: 'off', autofocus: true,
    oninput: () => input.setCustomValidity(reasonWrong(input.value)) });
  const label = el('label', {}, 'Reason (sent to the client and written to the audit log)', input);
  const data = await ask(title, [...children, label], action, true);
  return data === null ? null : data.get('reason');
}

/** Resolves to the token, or null if it was cancelled. wrong: the last token was refused. */
export async function askToken(wrong) {
  const input = el('input', { name: 'token', type: 'password', required: true, autocomplete: 'off',
    'aria-label': 'Token', autofocus: true });
  const text = wrong ? 'This token was refused. Enter the value of admin.token.' : 'This admin port requires a token (admin.token).';
  const data = await ask('Token', [el('p', {}, text), input], 'Sign in', false);
  return data === null ? null : data.get('token');
}
