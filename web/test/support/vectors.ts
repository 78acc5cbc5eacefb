/** The test vectors of the polling policy, which every client runs; see `tests/vectors/README.md`. */
import { readFileSync } from 'node:fs'

export interface VectorEvent {
  at: number
  event: string
  held?: boolean
  [member: string]: unknown
}

export interface Vector {
  name: string
  row: string
  settings: Record<string, unknown>
  random?: number
  events: VectorEvent[]
  decisions: Record<string, unknown>[]
}

export const VECTORS: Vector[] = JSON.parse(
  readFileSync(new URL('../../../tests/vectors/polling.json', import.meta.url), 'utf-8')
)

/** Convert snake_case names to camelCase. */
export function camelCased(members: Record<string, unknown>): Record<string, unknown> {
  return renamed(members, (name) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase()))
}

/** Convert camelCase names to snake_case. */
export function snakeCased(members: Record<string, unknown>): Record<string, unknown> {
  return renamed(members, (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`))
}

function renamed(members: Record<string, unknown>, rename: (name: string) => string): Record<string, unknown> {
  return Object.fromEntries(Object.entries(members).map(([name, value]) => [rename(name), value]))
}
