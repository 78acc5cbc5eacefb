import { expect, test } from 'vitest'
import { headline } from '../demo/agent/headline.js'
import type { BlockType } from '../src/wire.js'

test.each<[BlockType, unknown, string]>([
  ['tool_use', { id: 't', name: 'Bash', input: { description: 'List', command: 'ls -l' } }, 'Bash: ls -l'],
  ['tool_use', { id: 't', name: 'Edit', input: { old_string: 'a', file_path: 'plan.md' } }, 'Edit: plan.md'],
  ['tool_use', { id: 't', name: 'shell', input: { command: ['ls', '-l'] } }, 'shell: ls -l'],
  ['tool_use', { id: 't', name: 'Ask', input: { limit: 3, subject: 'why' } }, 'Ask: why'],
  ['tool_use', { id: 't', name: 'Now', input: {} }, 'Now'],
  ['tool_use', { id: 't', name: null, input: null }, 'tool use'],
  ['tool_use', 'odd', 'tool use'],
  ['system', { type: 'system', subtype: 'init', model: 'claude-sonnet-4-5' }, 'claude-sonnet-4-5'],
  ['system', { type: 'system', subtype: 'compact_boundary' }, 'compact_boundary'],
  ['system', { type: 'thread.started', thread_id: 'x' }, 'thread.started'],
  ['system', null, 'system'],
  [
    'result',
    {
      type: 'result',
      subtype: 'success',
      is_error: false,
      total_cost_usd: 0.0421,
      usage: { input_tokens: 812, cache_read_input_tokens: 9000, output_tokens: 400 }
    },
    'success · $0.04 · 9,812 tokens in, 400 out'
  ],
  ['result', { type: 'result', subtype: 'success', is_error: true, total_cost_usd: 0.001 }, 'error · $0.0010'],
  ['result', { type: 'result', subtype: 'error_max_turns', is_error: true }, 'error_max_turns'],
  [
    'result',
    { type: 'turn.completed', usage: { input_tokens: 5, cached_input_tokens: 4, output_tokens: 0 } },
    'turn.completed · 5 tokens in, 0 out'
  ],
  ['result', { type: 'turn.failed', error: { message: 'no model' } }, 'no model'],
  [
    'result',
    { type: 'result', status: 'success', stats: { input_tokens: 1, output_tokens: 2 } },
    'success · 1 tokens in, 2 out'
  ],
  ['result', { jsonrpc: '2.0', id: 3, result: { stopReason: 'end_turn' } }, 'end_turn'],
  ['result', [], 'result'],
  ['tool_result', { tool_use_id: 't', content: 'x', is_error: true }, 'tool result: error'],
  ['tool_result', { tool_use_id: 't', content: 'x', is_error: false }, 'tool result'],
  ['thinking', 'Hm', 'thinking'],
  ['error', { message: 'not JSON', line: '{' }, 'not JSON'],
  ['text', { type: 'assistant', content: {} }, 'assistant']
])('a block of %s with %j is one line', (type, content, line) => {
  expect(headline({ type, content })).toBe(line)
})
