/** The user's name and the project of this window: `?name=Ann&project=demo`. */
const query = new URLSearchParams(location.search)
const COLORS = ['#d6336c', '#7048e8', '#1c7ed6', '#0ca678', '#e8590c'] as const
const NAMES = ['Ada', 'Edsger', 'Grace', 'Ken', 'Radia'] as const

const pick = <T>(from: readonly T[]) => from[Math.floor(Math.random() * from.length)] as T

export const project = query.get('project') ?? 'demo'
export const user = { name: query.get('name') ?? pick(NAMES), color: pick(COLORS) }
