import type { Awareness } from 'y-protocols/awareness'

/** y-monaco gives the carets of each client a class, and leaves the styles to the page. */
export function nameCarets(awareness: Awareness): void {
  const style = document.head.appendChild(document.createElement('style'))
  awareness.on('change', () => {
    style.textContent = [...awareness.getStates()].map(([client, { user }]) => rules(client, user)).join('\n')
  })
}

function rules(client: number, user: { name?: unknown; color?: unknown } = {}): string {
  const name = CSS.escape(String(user.name ?? 'Anonymous'))
  const color = CSS.supports('color', String(user.color)) ? String(user.color) : 'gray'
  return `
    .yRemoteSelection-${client} { background: color-mix(in srgb, ${color} 25%, transparent) }
    .yRemoteSelectionHead-${client} { position: absolute; height: 100%; border-left: 2px solid ${color} }
    .yRemoteSelectionHead-${client}::after {
      content: '${name}'; position: absolute; top: 100%; padding: 0 4px; background: ${color}; color: white; font-size: 12px
    }`
}
