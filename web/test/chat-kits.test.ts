/** Turns in the stock clients of two chat kits: the AI SDK's `useChat` in Chromium, and AG-UI's `HttpAgent`. */
import { resolve } from 'node:path'
import { HttpAgent } from '@ag-ui/client'
import { build } from 'esbuild'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { Project } from '../src/project.js'
import type { Block } from '../src/wire.js'
import { HAS_BROWSER, startBrowser } from './support/browser.js'
import { GatewayProcess } from './support/gateway.js'
import { PATIENCE } from './support/until.js'

const gateway = new GatewayProcess()

function line(value: unknown): string {
  return `${JSON.stringify(value)}\n`
}

function delta(text: string, index = 0, kind = 'text'): string {
  const event = { type: 'content_block_delta', index, delta: { type: `${kind}_delta`, [kind]: text } }
  return line({ type: 'stream_event', event, parent_tool_use_id: null })
}

function message(role: string, ...content: object[]): string {
  return line({ type: role, message: { role, content }, parent_tool_use_id: null })
}

const WORDS = Array.from({ length: 20 }, (_, number) => `word ${number} 👩‍👩‍👧 `)
const PROSE = WORDS.join('')
/** The output of an agent's run, in pieces. */
const PIECES = [
  line({ type: 'stream_event', event: { type: 'message_start' }, parent_tool_use_id: null }) +
    delta('I must look.', 0, 'thinking'),
  message('assistant', { type: 'thinking', thinking: 'I must look.' }) + delta(WORDS[0] ?? '', 1),
  ...WORDS.slice(1).map((word) => delta(word, 1)),
  message('assistant', { type: 'text', text: PROSE }),
  message('assistant', { type: 'tool_use', id: 'tool-1', name: 'Bash', input: { command: 'ls' } }),
  message('user', { type: 'tool_result', tool_use_id: 'tool-1', content: 'a.md', is_error: false }),
  message('assistant', { type: 'text', text: 'Done.' }),
  line({ type: 'result', subtype: 'success', is_error: false, num_turns: 2 })
]
const HALF = 8

class Turn {
  private sent = 0

  private constructor(
    readonly project: Project,
    readonly session: string,
    readonly id: string
  ) {}

  static async begin(): Promise<Turn> {
    const project = gateway.project()
    const session = await project.createSession()
    return new Turn(project, session.id, (await project.createTurn(session.id, 'List the files')).id)
  }

  get url(): string {
    return `${gateway.url}/api/projects/${this.project.name}/sessions/${this.session}/turns/${this.id}`
  }

  /** Append the output up to a piece. */
  async output(until: number = PIECES.length): Promise<void> {
    for (; this.sent < until; this.sent++) {
      const final = this.sent === PIECES.length - 1
      await this.project.appendOutput(this.session, this.id, PIECES[this.sent] ?? '', { final })
    }
  }
}

beforeAll(() => gateway.start())
afterAll(() => gateway.stop())

describe.skipIf(!HAS_BROWSER)('useChat of the AI SDK in Chromium', () => {
  let browser: Browser
  let script: string

  beforeAll(async () => {
    const built = await build({
      entryPoints: [resolve(import.meta.dirname, 'support/chat-page.tsx')],
      bundle: true,
      write: false,
      format: 'esm',
      jsx: 'automatic',
      define: { 'process.env.NODE_ENV': '"production"' },
      logLevel: 'error'
    })
    script = built.outputFiles[0]?.text ?? ''
    browser = await startBrowser()
  })

  afterAll(() => browser.close())

  /** The response to the request for the events of a turn. */
  const answered = (page: Page) => page.waitForResponse((answer) => new URL(answer.url()).pathname.endsWith('/events'))

  /**
   * Open a page that follows a turn; resolves when the gateway has begun to send. The page has the gateway's origin, as
   * with a gateway behind the application's own host.
   */
  async function open(turn: Turn): Promise<Page> {
    const context = await browser.newContext()
    const page = await context.newPage()
    await page.route('**/chat*', (route) =>
      route.fulfill({
        contentType: 'text/html',
        body: `<!doctype html><meta charset="utf-8"><body><script type="module">${script.replaceAll('</script', '<\\/script')}</script>`
      })
    )
    const begun = answered(page)
    await page.goto(`${gateway.url}/chat?turn=${encodeURIComponent(turn.url)}`)
    expect((await begun).status()).toBe(200)
    return page
  }

  const state = (page: Page, name: string) => page.locator('main').getAttribute(`data-${name}`)

  interface Part {
    type: string
    text?: string
    state?: string
    output?: unknown
    input?: unknown
    toolName?: string
  }

  async function parts(page: Page): Promise<Part[]> {
    const shown = page.locator('#parts')
    return (await shown.count()) === 0 ? [] : JSON.parse((await shown.textContent()) ?? '[]')
  }

  const text = async (page: Page) => (await parts(page)).filter((part) => part.type === 'text').map((part) => part.text)

  const WHOLE = [
    { type: 'step-start' },
    { type: 'reasoning', text: 'I must look.', state: 'done' },
    { type: 'text', text: PROSE, state: 'done' },
    {
      type: 'dynamic-tool',
      toolName: 'Bash',
      toolCallId: 'tool-1',
      state: 'output-available',
      input: { command: 'ls' },
      output: 'a.md',
      providerExecuted: true
    },
    { type: 'text', text: 'Done.', state: 'done' },
    { type: 'data-result', data: { type: 'result', num_turns: 2 } }
  ]

  test('it follows a turn, and a reload in the middle loses nothing and shows nothing twice', async () => {
    const turn = await Turn.begin()
    const page = await open(turn)
    await vi.waitFor(async () => expect(await state(page, 'status')).toBe('submitted'), PATIENCE)
    await turn.output(HALF)
    const half = WORDS.slice(0, HALF - 1).join('')
    await vi.waitFor(async () => expect(await text(page)).toEqual([half]), PATIENCE)
    await vi.waitFor(async () => expect(await state(page, 'status')).toBe('streaming'), PATIENCE)

    await page.reload()
    await vi.waitFor(async () => expect(await text(page)).toEqual([half]), PATIENCE)
    await turn.output()
    await vi.waitFor(async () => expect(await state(page, 'status')).toBe('ready'), PATIENCE)
    expect(await parts(page)).toMatchObject(WHOLE)
    expect(await parts(page)).toHaveLength(WHOLE.length)
    expect([await state(page, 'messages'), await state(page, 'error')]).toEqual(['1', ''])

    const empty = answered(page)
    await page.reload() // the turn has ended: 204, and the kit is ready for the next message
    expect((await empty).status()).toBe(204)
    await vi.waitFor(async () => expect(await state(page, 'status')).toBe('ready'), PATIENCE)
    expect([await state(page, 'messages'), await state(page, 'error')]).toEqual(['0', ''])
    await page.context().close()
  })

  test('kill -9 of the gateway in the middle, and the page resumes', async () => {
    const turn = await Turn.begin()
    const page = await open(turn)
    await turn.output(HALF)
    const half = WORDS.slice(0, HALF - 1).join('')
    await vi.waitFor(async () => expect(await text(page)).toEqual([half]), PATIENCE)
    await gateway.kill()
    await vi.waitFor(async () => expect(await state(page, 'status')).toBe('error'), PATIENCE)
    await gateway.start()
    await turn.output(HALF + 3)
    await page.evaluate(() => document.dispatchEvent(new Event('visibilitychange'))) // the user returns to the page
    const more = WORDS.slice(0, HALF + 2).join('')
    await vi.waitFor(async () => expect(await text(page)).toEqual([more]), PATIENCE)
    await turn.output()
    await vi.waitFor(async () => expect(await state(page, 'status')).toBe('ready'), PATIENCE)
    expect(await parts(page)).toMatchObject(WHOLE)
    expect(await state(page, 'messages')).toBe('1')
    await page.context().close()
  })

  test('a turn that fails is an error of the chat, and a cancelled one is not', async () => {
    const failed = await Turn.begin()
    const failing = await open(failed)
    await vi.waitFor(async () => expect(await state(failing, 'status')).toBe('submitted'), PATIENCE)
    await failed.project.setTurnStatus(failed.session, failed.id, 'failed', { error: 'out of disk' })
    await vi.waitFor(async () => expect(await state(failing, 'error')).toBe('out of disk'), PATIENCE)
    const cancelled = await Turn.begin()
    const page = await open(cancelled)
    await cancelled.output(2)
    await vi.waitFor(async () => expect(await text(page)).toEqual([WORDS[0]]), PATIENCE)
    await cancelled.project.setTurnStatus(cancelled.session, cancelled.id, 'cancelled')
    await vi.waitFor(async () => expect(await state(page, 'status')).toBe('ready'), PATIENCE)
    expect([await text(page), await state(page, 'error')]).toEqual([[WORDS[0]], ''])
    await failing.context().close()
    await page.context().close()
  })
})

describe('followTurn', () => {
  test('it tells everything once, over kill -9 of the gateway', async () => {
    const turn = await Turn.begin()
    const blocks: Block[] = []
    const statuses: string[] = []
    let prose = ''
    const following = (async () => {
      for await (const event of turn.project.followTurn(turn.session, turn.id)) {
        if (event.type === 'status') statuses.push(event.status)
        else if (event.type === 'block') blocks[event.block.index] = event.block
        else {
          const block = blocks[event.index]
          if (block !== undefined) blocks[event.index] = { ...block, content: `${block.content}${event.delta}` }
        }
        prose = String(blocks[1]?.content)
      }
    })()
    await vi.waitFor(() => expect(statuses).toEqual(['pending']), PATIENCE)
    await turn.output(HALF)
    await vi.waitFor(() => expect(prose).toBe(WORDS.slice(0, HALF - 1).join('')), PATIENCE)
    await gateway.kill()
    await gateway.start()
    await turn.output()
    await following
    expect(statuses).toEqual(['pending', 'running', 'completed'])
    expect(blocks).toEqual((await turn.project.readTurn(turn.session, turn.id)).value?.blocks)
  })
})

describe('HttpAgent of AG-UI', () => {
  test('a run is followed to its end', async () => {
    const turn = await Turn.begin()
    const agent = new HttpAgent({ url: `${turn.url}/events?format=ag-ui` })
    const customs: string[] = []
    const growing: string[] = []
    const running = agent.runAgent(
      {},
      {
        onTextMessageContentEvent: ({ textMessageBuffer }) => {
          growing.push(textMessageBuffer)
        },
        onCustomEvent: ({ event }) => {
          customs.push(event.name)
        }
      }
    )
    await turn.output(HALF)
    await vi.waitFor(() => expect(growing.length).toBeGreaterThan(0), PATIENCE)
    await turn.output()
    const { newMessages } = await running
    expect(newMessages).toMatchObject([
      { role: 'reasoning', content: 'I must look.' },
      { role: 'assistant', content: PROSE },
      { role: 'assistant', toolCalls: [{ id: 'tool-1', function: { name: 'Bash', arguments: '{"command":"ls"}' } }] },
      { role: 'tool', toolCallId: 'tool-1', content: 'a.md' },
      { role: 'assistant', content: 'Done.' }
    ])
    expect(customs).toEqual(['result'])

    // A later client gets the whole run again.
    const again = await new HttpAgent({ url: `${turn.url}/events?format=ag-ui` }).runAgent()
    expect(again.newMessages).toEqual(newMessages)
  })

  test('a run that fails, and one that is cancelled', async () => {
    const failed = await Turn.begin()
    await failed.project.setTurnStatus(failed.session, failed.id, 'failed', { error: 'out of disk' })
    const errors: string[] = []
    await new HttpAgent({ url: `${failed.url}/events?format=ag-ui` }).runAgent(
      {},
      {
        onRunErrorEvent: ({ event }) => {
          errors.push(event.message)
        }
      }
    )
    expect(errors).toEqual(['out of disk'])
    const cancelled = await Turn.begin()
    await cancelled.output(2)
    await cancelled.project.setTurnStatus(cancelled.session, cancelled.id, 'cancelled')
    const outcomes: unknown[] = []
    const { newMessages } = await new HttpAgent({ url: `${cancelled.url}/events?format=ag-ui` }).runAgent(
      {},
      {
        onRunFinishedEvent: ({ event }) => {
          outcomes.push(event.outcome)
        }
      }
    )
    expect(outcomes).toEqual([{ type: 'cancelled' }])
    expect(newMessages.at(-1)).toMatchObject({ role: 'assistant', content: WORDS[0] })
  })
})
