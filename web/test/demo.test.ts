import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { gzipSync } from 'node:zlib'
import axe from 'axe-core'
import { build } from 'esbuild'
import type { Browser, BrowserContext, Locator, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import * as Y from 'yjs'
import { GatewayClient } from '../src/client.js'
import { isProblem } from '../src/errors.js'
import type { Project } from '../src/project.js'
import { HAS_BROWSER, startBrowser } from './support/browser.js'
import { focusTiptap } from './support/caret.js'
import { GatewayProcess } from './support/gateway.js'
import { PATIENCE } from './support/until.js'

const gateway = new GatewayProcess()
/** The folder for screenshots; undefined: none are taken. */
const SCREENSHOTS = process.env.SCREENSHOTS
/** An agent in a worker, which writes a file and reports the changes that it receives. */
const WORKER = `
  import { DocumentPoller, GatewayClient } from '../src/index.js'
  self.onmessage = async ({ data: [url, name] }) => {
    const project = new GatewayClient(url).project(name)
    const poller = new DocumentPoller(project, null, ([{ filePath, changeType }]) => {
      poller.stop()
      self.postMessage([filePath, changeType])
    }, { transport: 'sse', interval: 100 })
    await poller.refresh()
    await project.putText('a.md', 'of a worker')
  }
`
/** Runs in each page: a violation of its Content-Security-Policy is a fault. */
const WATCH_POLICY = `
  addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI, sourceFile, lineNumber, sample }) =>
    noteViolation(['policy', violatedDirective, blockedURI, sourceFile, lineNumber, sample].join(' ')))
`
/** A subscription as a browser returns it; nothing is sent to its endpoint. */
const SUBSCRIPTION = {
  endpoint: 'https://fcm.googleapis.com/fcm/send/nobody',
  keys: {
    p256dh: 'BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4',
    auth: 'BTBZMqHH6r4Tts7J_aSIgg'
  }
}
let browser: Browser
let context: BrowserContext
let project: Project
const faults: Error[] = []

describe.skipIf(!HAS_BROWSER)('the demo in Chromium', () => {
  beforeAll(async () => {
    await gateway.start()
    browser = await startBrowser()
  })

  beforeEach(async () => {
    context = await browser.newContext({ viewport: { width: 1400, height: 860 } })
    await context.exposeFunction('noteViolation', (what: string) => faults.push(new Error(what)))
    await context.addInitScript(WATCH_POLICY)
    project = gateway.project()
  })

  afterEach(async () => {
    await context.close()
    expect(faults.splice(0)).toEqual([])
  })

  afterAll(async () => {
    await browser.close()
    await gateway.stop()
  })

  async function openPage(path?: string, transport?: string, page?: Page): Promise<Page> {
    page ??= await context.newPage()
    page.on('pageerror', (fault) => faults.push(fault))
    await page.goto(`${gateway.url}/?project=${project.name}`)
    if (transport !== undefined) await page.getByLabel('Transport').selectOption(transport)
    if (path !== undefined) {
      await page.getByRole('button', { name: path }).click()
      await page.locator('.status', { hasText: 'saved' }).waitFor()
      await text(page).waitFor()
    }
    return page
  }

  function text(page: Page): Locator {
    return page.locator('.cm-content')
  }

  /** The text in the editor, without the names at the carets of other clients. */
  function written(page: Page): Promise<string> {
    return text(page).evaluate((content) => {
      const copy = content.cloneNode(true) as HTMLElement
      for (const caret of copy.querySelectorAll('.cm-ySelectionCaret')) caret.remove()
      return [...copy.querySelectorAll('.cm-line')].map((line) => line.textContent).join('\n')
    })
  }

  /** CodeMirror moves its caret itself, while it handles a click or a key. */
  async function type(page: Page, words: string): Promise<void> {
    await text(page).click()
    await focused(page)
    await page.keyboard.press('Control+End')
    await page.keyboard.type(words, { delay: 5 })
  }

  /** Wait until an element has the focus; without a selector, the text editor. */
  async function focused(page: Page, selector = '.cm-content'): Promise<void> {
    await page.locator(`${selector}:focus`).waitFor()
  }

  /** Type on a separate line: what two people type at the same position at the same time may interleave. */
  async function typeAfter(page: Page, beginning: string, words: string): Promise<void> {
    await text(page).locator('.cm-line', { hasText: beginning }).click()
    await focused(page)
    await page.keyboard.press('End')
    await page.keyboard.type(words, { delay: 5 })
  }

  async function stored(): Promise<string> {
    return (await project.readText('plan.md')).value
  }

  /** Edit like an agent that knows only texts: after a concurrent write it reads the text again. */
  async function prepend(words: string): Promise<void> {
    const { value: before, tag } = await project.readText('plan.md')
    await project.putText('plan.md', words + before, { ifMatch: tag }).catch((error) => {
      if (!isProblem(error, 'precondition_failed')) throw error
      return prepend(words)
    })
  }

  /** The project as used by this author. */
  function as(author: string): Project {
    return new GatewayClient(gateway.url, { author }).project(project.name)
  }

  async function nameIn(page: Page): Promise<string> {
    return page.getByLabel('Your name').inputValue()
  }

  test.each([
    ['websocket', 'sse'],
    ['poll', 'long-poll'],
    ['auto', 'websocket']
  ])('two pages and an agent come to one text, and see each other (%s, %s)', async (one, other) => {
    await project.putText('plan.md', 'Plan\none: \ntwo: ')
    // Both choose the same name first.
    await context.addInitScript(() => {
      const { random } = Math
      let calls = 0
      Math.random = () => (calls++ < 40 ? 0 : random())
    })
    const [first, second] = await Promise.all([openPage('plan.md', one), openPage('plan.md', other)])
    const names = await Promise.all([nameIn(first), nameIn(second)])
    expect(new Set(names).size).toBe(2)
    await first
      .getByRole('list', { name: 'Also here' })
      .getByText(names[1] ?? '', { exact: true })
      .waitFor()
    await second
      .getByRole('list', { name: 'Also here' })
      .getByText(names[0] ?? '', { exact: true })
      .waitFor()
    await Promise.all([typeAfter(first, 'one: ', 'from the first'), typeAfter(second, 'two: ', 'from the second')])
    await prepend('From the agent\n')
    await vi.waitFor(async () => {
      const [here, there] = await Promise.all([written(first), written(second)])
      expect(here).toBe(there)
      const whole = await stored()
      expect(whole.split('\n')).toEqual(here.split('\n'))
      expect(whole).toBe('From the agent\nPlan\none: from the first\ntwo: from the second')
    }, PATIENCE)
  })

  test('a hidden tab asks nothing until it is shown', async () => {
    await project.putText('plan.md', 'one')
    const page = await context.newPage()
    await page.clock.install()
    await page.addInitScript(() => {
      const { fetch } = window
      const asked: string[] = []
      const noting: typeof fetch = (input, init) => {
        asked.push(`${document.visibilityState}: ${init?.method ?? 'GET'} ${input}`)
        return fetch(input, init)
      }
      Object.assign(window, { fetch: noting, asked })
    })
    await openPage('plan.md', 'poll', page)
    await vi.waitFor(async () => {
      const [client] = (await project.presence('plan.md')).value?.clients ?? []
      expect(client?.state).toHaveProperty('cursor') // the editor has the focus and has announced its cursor
    }, PATIENCE)
    await setVisibility(page, 'hidden')
    await project.putText('plan.md', 'two')
    // Every poll of the page would be due within this time of its clock if the page were visible.
    await page.clock.runFor(60_000)
    const asked = await page.evaluate(() => (window as unknown as { asked: string[] }).asked)
    expect(asked.filter((request) => request.startsWith('visible: GET'))).not.toEqual([])
    // Only that this client is still there is told.
    expect(asked.filter((request) => request.startsWith('hidden: GET'))).toEqual([])
    await setVisibility(page, 'visible')
    await vi.waitFor(async () => expect(await text(page).innerText()).toBe('two'), PATIENCE)
  })

  test('what is typed while the network is cut arrives when it is there again', async () => {
    await project.putText('plan.md', '')
    const page = await openPage('plan.md', 'sse')
    await context.setOffline(true)
    await type(page, 'typed offline')
    await page.locator('.status', { hasText: 'offline' }).waitFor()
    expect(await stored()).toBe('')
    await context.setOffline(false)
    await vi.waitFor(async () => expect(await stored()).toBe('typed offline'), PATIENCE)
    await page.locator('.status', { hasText: 'saved' }).waitFor()
  })

  test.each(['auto', 'websocket'])(
    'no keystroke is lost when the gateway is killed meanwhile (%s)',
    async (transport) => {
      await project.putText('plan.md', '')
      const page = await openPage('plan.md', transport)
      await type(page, 'before ')
      await gateway.kill()
      await type(page, 'while ')
      await gateway.start()
      await type(page, 'after')
      await vi.waitFor(async () => expect(await stored()).toBe('before while after'), PATIENCE)
    }
  )

  test('a turn streams to its end, and is then asked for no more', async () => {
    await project.putText('plan.md', '')
    const page = await openPage()
    await page.getByRole('combobox', { name: 'Agent' }).selectOption('Your own agent')
    await page.getByLabel('Prompt').fill('Count to three')
    await page.getByLabel('Prompt').press('Enter')
    await page.locator('[data-polling=true]').waitFor()
    const [session] = (await project.listSessions()).sessions
    const [turn] = (await project.listTurns(session?.id ?? '')).turns
    for (const content of ['one', 'two', 'three']) {
      await project.appendBlocks(session?.id ?? '', turn?.id ?? '', [{ type: 'text', content }])
      await page.locator('.block', { hasText: content }).waitFor()
    }
    await project.setTurnStatus(session?.id ?? '', turn?.id ?? '', 'completed')
    await page.locator('.turn-status.completed').waitFor()
    await page.locator('[data-polling=false]').waitFor()
    expect(await page.locator('.block.text').allInnerTexts()).toEqual(['one', 'two', 'three'])
  })

  test('a file that is deleted closes its editor; changed files are marked; the past is shown and restored', async () => {
    await as('Ada').putText('plan.md', 'first')
    await as('Bob').putText('plan.md', 'second')
    await project.putText('notes/other.md', 'other')
    const page = await openPage('plan.md')
    await project.putText('notes/other.md', 'changed')
    await page.getByRole('button', { name: 'other.md' }).getByLabel('changed').waitFor()
    await page.getByRole('button', { name: 'History' }).click()
    await page.getByRole('button', { name: 'Bob' }).click()
    await page.locator('.diff ins', { hasText: 'second' }).waitFor()
    await page.locator('.diff del', { hasText: 'first' }).waitFor()
    await page.getByRole('button', { name: 'Ada' }).click()
    await page.getByRole('button', { name: 'Whole text' }).click()
    await page.locator('.version pre', { hasText: 'first' }).waitFor()
    await page.getByRole('button', { name: 'Restore' }).click()
    await vi.waitFor(async () => expect(await stored()).toBe('first'), PATIENCE)
    await project.delete('plan.md')
    await page.getByRole('alert').filter({ hasText: 'deleted' }).waitFor()
    expect(await text(page).count()).toBe(0)
  })

  test('the policy allows what the page does: styles of the editor, carets of others, the choice of a project', async () => {
    await project.putText('plan.md', 'Plan\nmore')
    const [page, other] = [await openPage('plan.md', 'websocket'), await openPage('plan.md', 'websocket')]
    await other.bringToFront()
    await text(other).click()
    await other.keyboard.press('Control+A')
    const caret = page.locator('.cm-ySelectionCaret')
    await caret.waitFor({ state: 'attached' })
    const style = (locator: Locator, name: string) =>
      locator.first().evaluate((element, name) => getComputedStyle(element).getPropertyValue(name), name)
    expect(await style(caret, 'position')).toBe('relative') // set by a style sheet that the editor creates
    const color = await style(caret, 'background-color') // set by the caret's own style
    expect(color).toMatch(/^rgb\(\d+, \d+, \d+\)$/)
    const pale = color.replace('rgb', 'rgba').replace(')', ', 0.2)')
    expect(await style(page.locator('.cm-ySelection'), 'background-color')).toBe(pale)
    expect(await style(page.locator('.cm-scroller'), 'display')).toBe('flex')
    expect(await style(page.locator('.cm-content'), 'white-space')).toContain('break-spaces')
    await page.getByLabel('Project').fill('another')
    await page.getByLabel('Project').press('Enter')
    await page.waitForURL(/project=another/)
    await page.getByText('Select or create a file').waitFor()
  })

  test('a style sheet without the nonce of the answer is refused, and no two answers have one nonce', async () => {
    const page = await openPage()
    const color = await page.evaluate(() => {
      const sheet = document.createElement('style')
      sheet.textContent = 'body { color: rgb(1, 2, 3) }'
      document.head.append(sheet)
      return getComputedStyle(document.body).color
    })
    expect(color).not.toBe('rgb(1, 2, 3)')
    await vi.waitFor(
      () => expect(faults.splice(0).map(String)).toEqual([expect.stringContaining('style-src-elem')]),
      PATIENCE
    )
    const nonce = () => page.evaluate(() => document.querySelector<HTMLElement>('meta[property=csp-nonce]')?.nonce)
    const before = await nonce()
    await page.reload()
    expect(before).toMatch(/^[\w-]{24}$/)
    expect(await nonce()).not.toBe(before)
  })

  test('everything is reached with the keyboard, and fits on a narrow screen', async () => {
    const page = await openPage()
    await page.setViewportSize({ width: 360, height: 740 })
    await page.getByRole('button', { name: 'New file' }).focus()
    await page.keyboard.press('Enter')
    await focused(page, 'input[name=path]')
    await page.keyboard.type('plan.md')
    await page.keyboard.press('Enter')
    await page.locator('.status', { hasText: 'saved' }).waitFor()
    await focused(page)
    await page.keyboard.type('by keyboard')
    await vi.waitFor(async () => expect(await stored()).toBe('# Plan\n\nby keyboard'), PATIENCE)
    await page.keyboard.press('Tab') // leave the editor
    await page.getByRole('button', { name: 'How' }).and(page.locator('.document *')).focus()
    await page.keyboard.press('Tab')
    await focused(page)
    await page.keyboard.press('Control+End')
    await page.keyboard.type('!')
    await vi.waitFor(async () => expect(await stored()).toBe('# Plan\n\nby keyboard!'), PATIENCE)
    for (const name of ['Files', 'Agent', 'Cost', 'Document']) {
      await page.getByRole('navigation', { name: 'Panes' }).getByRole('button', { name }).click()
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(360)
    }
  })

  test('the first project is filled, and the sample agent writes into it while somebody types', async () => {
    project = gateway.project('demo')
    const page = await context.newPage()
    page.on('pageerror', (fault) => faults.push(fault))
    await page.goto(gateway.url)
    await page.getByText('Three things to try').first().waitFor()
    await page.getByRole('button', { name: 'brief.md' }).click()
    await text(page).getByText('Two people can write').click()
    await focused(page)
    await page.keyboard.press('End')
    await page.getByRole('button', { name: 'Make a table of contents' }).click()
    await page.locator('.cm-ySelectionInfo', { hasText: 'Scribe' }).waitFor({ state: 'attached' })
    await text(page).getByText('Two people can write').click()
    await focused(page)
    await page.keyboard.press('End')
    await page.keyboard.type(' Even three.')
    await page.locator('.turn-status.completed').nth(1).waitFor()
    await vi.waitFor(async () => {
      const { value } = await project.readText('launch/brief.md')
      expect(value).toContain('## Contents\n\n- Why now\n- Who it is for\n- What it does\n- Risks\n- Dates\n')
      expect(value).toContain('Two people can write in one note at the same time. Even three.\n')
    }, PATIENCE)
    await page.getByRole('button', { name: 'press release' }).click()
    await page.locator('.ProseMirror strong', { hasText: 'several people' }).waitFor()
    await focusTiptap(page, '.ProseMirror', 'head of the office.')
    await page.keyboard.type(' Rich.')
    await vi.waitFor(async () => {
      const { value } = await project.readJson('launch/press release')
      expect(value.default).toContain('head of the office. Rich.</paragraph>')
    }, PATIENCE)
  })

  test('a file is found by its words, renamed, deleted, and brought back from the bin', async () => {
    await project.putText('notes/one.md', 'milk\nbread')
    await project.putText('notes/two.md', 'a needle in here')
    const page = await openPage()
    await page.getByRole('button', { name: 'two.md' }).waitFor()
    await page.keyboard.press('Control+p')
    await focused(page, '[role=combobox]')
    await page.keyboard.type('needle')
    await page.getByRole('option', { name: 'a needle in here' }).waitFor()
    await page.keyboard.press('Enter')
    await text(page).getByText('a needle in here').waitFor()
    expect(new URL(page.url()).hash).toBe('#notes/two.md')
    await page.getByRole('button', { name: 'Rename' }).click()
    await page.getByLabel('New path').fill('found.md')
    await page.getByLabel('New path').press('Enter')
    await page.waitForURL(/#found\.md$/)
    await page.locator('.status', { hasText: 'saved' }).waitFor()
    await page.getByRole('button', { name: 'Delete' }).click()
    await page.getByText('Select or create a file').waitFor()
    await page.getByRole('button', { name: 'Bin' }).click()
    const deleted = page.getByRole('dialog', { name: 'Bin' }).getByRole('listitem').filter({ hasText: 'found.md' })
    await deleted.getByText('found.md').click()
    await deleted.getByText('a needle in here').waitFor()
    await deleted.getByRole('button', { name: 'Restore' }).click()
    await text(page).getByText('a needle in here').waitFor()
  })

  test('what happened meanwhile is told on arrival, without what one did oneself', async () => {
    await project.putText('plan.md', 'one\n')
    const page = await openPage('plan.md')
    await type(page, 'mine')
    await vi.waitFor(async () => expect(await stored()).toContain('mine'), PATIENCE)
    await page.locator('.status', { hasText: 'saved' }).waitFor()
    await vi.waitFor(async () => {
      const seen = await page.evaluate((name) => localStorage.getItem(`yjs-gateway seen ${name}`), project.name)
      expect(JSON.parse(seen ?? '{}').cursor).toBe((await project.changes()).value?.cursor)
    }, PATIENCE)
    const beside = await context.newPage()
    await beside.goto(`${gateway.url}/healthz`)
    await page.close()
    // The next page has the name of this one as soon as this one has released it.
    const held = () => beside.evaluate(async () => (await navigator.locks.query()).held)
    await vi.waitFor(async () => expect(await held()).toEqual([]), PATIENCE)
    await as('Ada').putText('other.md', 'from Ada\n')
    const again = await openPage()
    const card = again.getByRole('complementary', { name: 'While you were away' })
    await card.getByText('other.md').click()
    await card.locator('ins', { hasText: 'from Ada' }).waitFor()
    expect(await card.getByText('plan.md').count()).toBe(0)
    await card.getByRole('button', { name: 'Dismiss' }).click()
    await card.waitFor({ state: 'detached' })
  })

  test('the bell subscribes to push messages, and says why where there are none', async () => {
    await project.putText('plan.md', '')
    await context.grantPermissions(['notifications'], { origin: gateway.url })
    await context.addInitScript((subscription) => {
      PushManager.prototype.subscribe = async () => ({ toJSON: () => subscription }) as unknown as PushSubscription
    }, SUBSCRIPTION)
    const page = await openPage()
    await page.getByRole('button', { name: 'Notifications are off' }).click()
    const stored = page.waitForResponse(
      (answer) => answer.url().includes('/push/') && answer.request().method() === 'PUT'
    )
    await page.getByRole('button', { name: 'Turn on' }).click()
    expect((await stored).ok()).toBe(true)
    await page.getByRole('button', { name: 'Notifications are on' }).waitFor()
    const poor = await context.newPage()
    await poor.addInitScript(() => Reflect.deleteProperty(window, 'PushManager'))
    await poor.goto(`${gateway.url}/?project=${gateway.project().name}`)
    await poor.getByRole('button', { name: 'Notifications are off' }).click()
    await poor.getByText('this browser has no Web Push').waitFor()
    expect(await poor.getByRole('button', { name: 'Turn on' }).isDisabled()).toBe(true)
  })

  test('names, texts, blocks and Markdown of others make no elements but those of Markdown', async () => {
    const path = '<img src=x onerror=alert(1)>.md'
    const evil =
      '<img src=x onerror=alert(1)>\n\n<script>alert(1)</script>\n\n[link](javascript:alert(1)) ![pic](http://example.org/a.png)\n\n**fine**'
    await as('<b>Eve</b>').putText(path, evil)
    const session = await project.createSession('<i>title</i>')
    const turn = await project.createTurn(session.id, evil)
    await project.appendBlocks(session.id, turn.id, [
      { type: 'text', content: evil },
      { type: 'tool_use', content: { id: '1', name: '<img src=x>', input: { path: '<img src=x>' } } }
    ])
    const page = await openPage(path)
    await page.getByRole('button', { name: 'Preview' }).click()
    await page.locator('.document .prose strong', { hasText: 'fine' }).waitFor()
    await page.locator('.chat .prose strong', { hasText: 'fine' }).waitFor()
    const found = () =>
      page.locator('#root img:not(.cm-widgetBuffer), #root script, iframe, [onerror], a[href^="javascript:"]').count()
    expect(await found()).toBe(0)
    await page.getByRole('button', { name: 'History' }).click()
    await page.locator('.diff ins', { hasText: 'fine' }).waitFor()
    expect(await found()).toBe(0)
    expect(await page.locator('.entries b').count()).toBe(0)
  })

  test('axe finds nothing, in light and dark', async () => {
    await as('Ada').putText('plan.md', '# Plan\n\n- [ ] one\n\n| a | b |\n| - | - |\n| 1 | 2 |\n')
    await as('Bob').putText('plan.md', '# Plan\n\n- [x] one\n\n| a | b |\n| - | - |\n| 1 | 2 |\n')
    const page = await openPage('plan.md')
    await page.evaluate(axe.source)
    const check = async (rules: string[]) => {
      const { violations } = await page.evaluate(
        (rules) => (window as unknown as { axe: typeof axe }).axe.run(rules.length > 0 ? { runOnly: rules } : {}),
        rules
      )
      expect(violations.map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html)])).toEqual([])
    }
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
      const rules = colorScheme === 'dark' ? ['color-contrast'] : [] // only the contrast depends on the colour scheme
      await page.getByRole('button', { name: 'Write', exact: true }).click()
      await text(page).waitFor()
      await check(rules)
      await page.getByRole('button', { name: 'Preview' }).click()
      await page.locator('.document .prose table').waitFor()
      await check(rules)
      await page.getByRole('button', { name: 'History' }).click()
      await page.locator('.diff ins').waitFor()
      await check(rules)
      await page.keyboard.press('Control+p')
      await page.getByRole('option').first().waitFor()
      await check(rules)
      await page.keyboard.press('Escape')
    }
  })

  test('of many files only those are drawn that are seen, and a large text is written in', async () => {
    const update = (text: string) => {
      const doc = new Y.Doc()
      doc.getText('content').insert(0, text)
      return Y.encodeStateAsUpdate(doc)
    }
    const paths = Array.from({ length: 500 }, (_, index) => `folder ${index % 10}/file ${index}.md`)
    const large = 'A line of a large text.\n'.repeat(45_000)
    await project.sync({ ...Object.fromEntries(paths.map((path) => [path, update(path)])), 'plan.md': update(large) })
    const page = await openPage('plan.md')
    expect(await page.getByRole('navigation', { name: 'Files' }).locator('li').count()).toBe(11)
    await text(page).waitFor()
    expect(await page.locator('.cm-line').count()).toBeLessThan(500)
    await text(page).click({ position: { x: 300, y: 10 } })
    await focused(page)
    await page.keyboard.press('Control+Home')
    await page.keyboard.type('Typed. ')
    await vi.waitFor(async () => expect((await stored()).startsWith('Typed. A line')).toBe(true), PATIENCE)
    await page.getByLabel('Filter files by name').fill('file 499')
    await page.getByRole('button', { name: 'file 499.md' }).waitFor()
  })

  test('the client works in a worker too', async () => {
    const { outputFiles } = await build({
      stdin: { contents: WORKER, resolveDir: import.meta.dirname },
      bundle: true,
      write: false,
      format: 'esm'
    })
    const page = await context.newPage()
    await page.goto(`${gateway.url}/healthz`) // same origin; the Content-Security-Policy of the demo forbids workers
    const answer = await page.evaluate(
      ([code, url, name]) =>
        new Promise((resolve, reject) => {
          const blob = new Blob([code ?? ''], { type: 'text/javascript' })
          const worker = new Worker(URL.createObjectURL(blob), { type: 'module' })
          worker.onmessage = ({ data }) => resolve(data)
          worker.onerror = ({ message }) => reject(new Error(message))
          worker.postMessage([url, name])
        }),
      [outputFiles[0]?.text, gateway.url, project.name]
    )
    expect(answer).toEqual(['a.md', 'created'])
    expect((await project.readText('a.md')).value).toBe('of a worker')
  })

  test.runIf(SCREENSHOTS)('screenshots', { timeout: 240_000 }, async () => {
    project = gateway.project('notebook')
    const page = await context.newPage()
    await page.setViewportSize({ width: 1400, height: 820 })
    await page.goto(`${gateway.url}/?project=${project.name}`)
    await page.getByRole('button', { name: 'Fill it with a sample' }).click()
    await page.getByText('Three things to try').first().waitFor()
    await page.getByRole('button', { name: 'brief.md' }).click()
    await text(page).waitFor()
    const other = await context.newPage()
    await other.goto(page.url())
    await text(other).getByText('Two people can write').click()
    await other.keyboard.press('End')
    await page.bringToFront()
    const shoot = (name: string) => page.screenshot({ path: resolve(SCREENSHOTS ?? '', `demo-${name}.png`) })
    await page.emulateMedia({ colorScheme: 'light' })
    await page.locator('.cost').getByText('in 1 min').waitFor({ timeout: 120_000 })
    await page.getByRole('button', { name: 'Make a table of contents' }).click()
    await text(page).getByText('- What').waitFor()
    await page.locator('.cm-ySelectionInfo', { hasText: 'Scribe' }).waitFor({ state: 'attached' })
    await shoot('light')
    await page.locator('.turn-status.completed').nth(1).waitFor()
    await page.emulateMedia({ colorScheme: 'dark' })
    await page.getByRole('button', { name: 'History' }).click()
    await page.locator('.diff ins').first().waitFor()
    await shoot('dark')
    await page.emulateMedia({ colorScheme: 'light' })
    await page.setViewportSize({ width: 360, height: 740 })
    await page.getByRole('navigation', { name: 'Panes' }).getByRole('button', { name: 'Agent' }).click()
    await page.locator('.thread').evaluate((thread) => thread.scrollTo(0, thread.scrollHeight))
    await shoot('narrow')
  })
})

test('the first paint loads less than 200 kB, compressed, and no editor', () => {
  const folder = resolve(import.meta.dirname, '../../gateway/demo')
  const index = readFileSync(join(folder, 'index.html'), 'utf8')
  const names = [...index.matchAll(/(?:src|href)="([\w-]+\.(?:js|css))"/g)].map((match) => match[1] ?? '')
  const files = names.map((name) => readFileSync(join(folder, name)))
  expect(names).toContain('demo.js')
  expect(names).toContain('demo.css')
  const loaded = files.filter((_, index) => names[index]?.endsWith('.js')).join()
  expect(['cm-scroller', 'ProseMirror', 'mdast'].filter((word) => loaded.includes(word))).toEqual([])
  for (const [, name] of loaded.matchAll(/(?:from|import)"\.\/([\w-]+\.js)"/g)) expect(names).toContain(name)
  const size = files.reduce((sum, file) => sum + gzipSync(file).length, gzipSync(index).length)
  expect(size).toBeLessThan(200_000)
})

async function setVisibility(page: Page, state: 'hidden' | 'visible'): Promise<void> {
  await page.evaluate((state) => {
    Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => state })
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => state === 'hidden' })
    document.dispatchEvent(new Event('visibilitychange'))
  }, state)
}
