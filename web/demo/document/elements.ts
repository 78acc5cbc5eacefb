/**
 * Replaces the part of `lib0/dom` that y-codemirror.next uses. Sets styles through the CSSOM, because the
 * Content-Security-Policy of the page forbids inline styles. Only colours are kept.
 */
export function element(name: string, attributes: { left: string; right: string }[] = [], children: Node[] = []) {
  const made = document.createElement(name)
  for (const { left, right } of attributes) {
    if (left === 'style') setColors(made, right)
    else made.setAttribute(left, right)
  }
  made.append(...children)
  return made
}

export function text(content: string): Text {
  return document.createTextNode(content)
}

function setColors(element: HTMLElement, style: string): void {
  const { style: wanted } = document.createElement('i')
  wanted.cssText = style
  element.style.backgroundColor = wanted.backgroundColor
  element.style.borderColor = wanted.borderColor
}
