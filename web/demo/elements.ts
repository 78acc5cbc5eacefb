/**
 * What y-codemirror.next uses of `lib0/dom`. A `style` attribute is set through the CSSOM: the page's policy allows no
 * inline styles.
 */
export function element(name: string, attributes: { left: string; right: string }[] = [], children: Node[] = []) {
  const made = document.createElement(name)
  for (const { left, right } of attributes) {
    if (left === 'style') made.style.cssText = right
    else made.setAttribute(left, right)
  }
  made.append(...children)
  return made
}

export function text(content: string): Text {
  return document.createTextNode(content)
}
