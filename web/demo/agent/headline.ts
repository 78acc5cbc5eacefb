/** The headline of a block: one line that summarizes the block while it is collapsed. */
import type { Block } from '../../src/index.js'

type Members = Record<string, unknown>

/** The most informative arguments of a tool call, in order of preference. */
const MAIN_ARGUMENTS = [
  'command',
  'file_path',
  'notebook_path',
  'path',
  'pattern',
  'query',
  'url',
  'description',
  'prompt'
]

/** The headline: for a tool call its name and main argument, for a result the outcome, the cost and the tokens. */
export function headline({ type, content }: Pick<Block, 'type' | 'content'>): string {
  const members = membersOf(content)
  if (type === 'tool_use') return toolLine(members) ?? 'tool use'
  if (type === 'system') return systemLine(members)
  if (type === 'result') return resultLine(members)
  if (type === 'error') return textOf(members.message) ?? textOf(content) ?? 'error'
  if (type === 'text') return textOf(members.type) ?? 'text'
  return type === 'tool_result' && members.is_error === true ? 'tool result: error' : type.replace('_', ' ')
}

function toolLine({ name, input }: Members): string | undefined {
  const tool = textOf(name)
  const given = membersOf(input)
  const values = [...MAIN_ARGUMENTS.map((name) => given[name]), ...Object.values(given)]
  const argument = textOf(input) ?? values.map(argumentText).find((text) => text !== undefined)
  return tool !== undefined && argument !== undefined ? `${tool}: ${argument}` : (tool ?? argument)
}

function systemLine(members: Members): string {
  const kinds = [members.subtype, members.sessionUpdate, members.method, members.type]
  const kind = kinds.map(textOf).find((text) => text !== undefined)
  return [kind === 'init' ? undefined : kind, textOf(members.model)].filter(Boolean).join(' · ') || 'system'
}

function resultLine(members: Members): string {
  const outcomes = [members.subtype, members.status, membersOf(members.result).stopReason]
  const outcome = outcomes.map(textOf).find((text) => text !== undefined)
  const failure = textOf(membersOf(members.error).message)
  const isFailure = members.is_error === true && outcome === 'success'
  const cost = members.total_cost_usd
  const parts = [
    isFailure ? 'error' : (outcome ?? failure ?? textOf(members.type) ?? 'result'),
    typeof cost === 'number' ? `$${cost.toFixed(cost < 0.01 ? 4 : 2)}` : undefined,
    tokensText(members)
  ]
  return parts.filter(Boolean).join(' · ')
}

/** The number of input tokens, including cached ones, and of output tokens. */
function tokensText(members: Members): string | undefined {
  const usage = membersOf(members.usage ?? members.stats ?? membersOf(members.result).usage)
  const claude = ['cache_creation_input_tokens', 'cache_read_input_tokens'] // not included in its `input_tokens`
  const read = sum(usage, ['input_tokens', 'inputTokens', ...claude])
  const written = sum(usage, ['output_tokens', 'outputTokens'])
  if (read === undefined && written === undefined) return undefined
  return `${(read ?? 0).toLocaleString('en')} tokens in, ${(written ?? 0).toLocaleString('en')} out`
}

function sum(members: Members, names: string[]): number | undefined {
  const numbers = names.map((name) => members[name]).filter((value) => typeof value === 'number')
  return numbers.length === 0 ? undefined : numbers.reduce((one, other) => one + other, 0)
}

function argumentText(value: unknown): string | undefined {
  const isWords = Array.isArray(value) && value.length > 0 && value.every((word) => typeof word === 'string')
  return isWords ? value.join(' ') : textOf(value)
}

function membersOf(value: unknown): Members {
  return typeof value === 'object' && value !== null ? (value as Members) : {}
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}
