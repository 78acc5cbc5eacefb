/** People (and agents) as others see them: a name and a colour. What others say of themselves is not trusted. */

export interface Person {
  name: string
  /** `#rrggbb` */
  color: string
}

/** On each of them white letters can be read. */
const COLORS = ['#1d5fd1', '#8250df', '#bf3989', '#1a7f37', '#8a5a00', '#c4302b', '#0b7285', '#5f6b00']
const MAX_NAME = 40

/** The colour of a name, the same in every window. */
export function colorOf(name: string): string {
  let hash = 0
  for (const char of name) hash = (hash * 31 + (char.codePointAt(0) ?? 0)) >>> 0
  return COLORS[hash % COLORS.length] ?? '#1d5fd1'
}

/** Who an awareness state says it is; null: nobody. The colour is that of the name, in the text as in the history. */
export function personOf(state: unknown): Person | null {
  const { name } = membersOf(membersOf(state).user)
  const shown = typeof name === 'string' ? name.trim().slice(0, MAX_NAME) : ''
  return shown === '' ? null : { name: shown, color: colorOf(shown) }
}

/** As editors expect it in an awareness state. */
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
