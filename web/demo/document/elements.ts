/**
 * What y-codemirror.next uses of `lib0/dom`. A `style` attribute is set through the CSSOM: the page's policy allows no
 * inline styles. Only colours are taken of it.
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
