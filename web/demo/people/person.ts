/** People (and agents) as others see them: a name and a colour. The states of other clients are not trusted. */

export interface Person {
  name: string
  /** `#rrggbb` */
  color: string
}

/** White text is readable on each of these colours. */
const COLORS = ['#1d5fd1', '#8250df', '#bf3989', '#1a7f37', '#8a5a00', '#c4302b', '#0b7285', '#5f6b00']
const MAX_NAME = 40

/** The colour for a name, the same in every window. */
export function colorOf(name: string): string {
  let hash = 0
  for (const char of name) hash = (hash * 31 + (char.codePointAt(0) ?? 0)) >>> 0
  return COLORS[hash % COLORS.length] ?? '#1d5fd1'
}

/**
 * The person in an awareness state; null if there is none. The colour is derived from the name, in the editor as in the
 * history.
 */
export function personOf(state: unknown): Person | null {
  const { name } = membersOf(membersOf(state).user)
  const shown = typeof name === 'string' ? name.trim().slice(0, MAX_NAME) : ''
  return shown === '' ? null : { name: shown, color: colorOf(shown) }
}

/** The `user` field of an awareness state, as editors expect it. */
export function userOf({ name, color }: Person): { name: string; color: string; colorLight: string } {
  return { name, color, colorLight: `${color}33` }
}

export function initialsOf(name: string): string {
  const [first = '?', second = ''] = name.split(/\s+/)
  return `${[...first][0] ?? '?'}${[...second][0] ?? ''}`.toUpperCase()
}

function membersOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}
