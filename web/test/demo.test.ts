import { resolve } from 'node:path'
import { build } from 'esbuild'
import type { Browser, BrowserContext, Locator, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { isProblem } from '../src/errors.js'
import type { Project } from '../src/project.js'
import { HAS_BROWSER, startBrowser } from './support/browser.js'
import { GatewayProcess } from './support/gateway.js'

const gateway = new GatewayProcess()
/** Where screenshots go, if they are wanted. */
const SCREENSHOTS = process.env.SCREENSHOTS
/** Writes a file, and tells when it hears of it. */
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
/** Runs in each page: what its Content-Security-Policy forbids is a fault. */
const WATCH_POLICY = `
  addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI, sourceFile, lineNumber, sample }) =>
    noteViolation(['policy', violatedDirective, blockedURI, sourceFile, lineNumber, sample].join(' ')))
`
const PATIENCE = { timeout: 30_000, interval: 50 }
let browser: Browser
let context: BrowserContext
let project: Project
const faults: Error[] = []

describe.skipIf(!HAS_BROWSER)('the demo in Chromium', { timeout: 60_000 }, () => {
  beforeAll(async () => {
    await gateway.start()
    browser = await startBrowser()
  })

  beforeEach(async () => {
    context = await browser.newContext({ viewport: { width: 1400, height: 860 } })
    context.setDefaultTimeout(60_000)
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

  async function openPage(path?: string, transport?: string): Promise<Page> {
    const page = await context.newPage()
    page.on('pageerror', (fault) => faults.push(fault))
    await page.goto(`${gateway.url}/?project=${project.name}`)
    if (transport !== undefined) await page.getByLabel('Transport').selectOption(transport)
    if (path !== undefined) {
      await page.getByRole('button', { name: path }).click()
      await page.locator('.status', { hasText: 'saved' }).waitFor()
    }
    return page
  }

  function text(page: Page): Locator {
    return page.locator('.cm-content')
  }

  /** The text in the editor, without the names beside the carets of others. */
  function written(page: Page): Promise<string> {
    return text(page).evaluate((content) => {
      const copy = content.cloneNode(true) as HTMLElement
      for (const caret of copy.querySelectorAll('.cm-ySelectionCaret')) caret.remove()
      return [...copy.querySelectorAll('.cm-line')].map((line) => line.textContent).join('\n')
    })
  }

  async function type(page: Page, words: string): Promise<void> {
    await text(page).click()
    await page.keyboard.press('Control+End')
    await page.keyboard.type(words, { delay: 5 })
  }

  /** On a line of its own: what two people type in one place at the same time may interleave. */
  async function typeAfter(page: Page, beginning: string, words: string): Promise<void> {
    await text(page).locator('.cm-line', { hasText: beginning }).click()
    await page.keyboard.press('End')
    await page.keyboard.type(words, { delay: 5 })
  }

  async function stored(): Promise<string> {
    return (await project.readText('plan.md')).value
  }

  /** As an agent that knows only texts: what came between reading and writing makes it read again. */
  async function prepend(words: string): Promise<void> {
    const { value: before, tag } = await project.readText('plan.md')
    await project.putText('plan.md', words + before, { ifMatch: tag }).catch((error) => {
      if (!isProblem(error, 'precondition_failed')) throw error
      return prepend(words)
    })
  }

  test.each([
    ['websocket', 'sse'],
    ['poll', 'long-poll'],
    ['auto', 'websocket']
  ])('two pages and an agent come to one text (%s, %s)', async (one, other) => {
    await project.putText('plan.md', 'Plan\none: \ntwo: ')
    const [first, second] = await Promise.all([openPage('plan.md', one), openPage('plan.md', other)])
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
    const page = await openPage('plan.md', 'poll')
    await setVisibility(page, 'hidden')
    await page.waitForLoadState('networkidle') // what was in flight came in, and half a second without a request
    const asked: string[] = []
    page.on('request', (request) => asked.push(request.url()))
    await project.putText('plan.md', 'two')
    // Each of the page's polls would be due within this time, were it shown.
    await page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 3_500)))
    expect(asked).toEqual([])
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
    await page.getByRole('button', { name: 'New session' }).click()
    await page.getByLabel('Prompt').fill('Count to three')
    await page.getByRole('button', { name: 'Send' }).click()
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
    expect(await page.locator('p.block').allInnerTexts()).toEqual(['one', 'two', 'three'])
  })

  test('a file that is deleted closes its editor; changed files are marked; the past is shown and restored', async () => {
    await project.putText('plan.md', 'first')
    await project.putText('plan.md', 'second')
    await project.putText('notes/other.md', 'other')
    const page = await openPage('plan.md')
    await project.putText('notes/other.md', 'changed')
    await page.getByRole('button', { name: 'other.md' }).getByLabel('changed').waitFor()
    await page.getByRole('button', { name: 'History' }).click()
    await page.getByRole('slider').fill('1')
    await page.locator('.history pre', { hasText: 'first' }).waitFor()
    await page.getByRole('button', { name: 'Restore' }).click()
    await vi.waitFor(async () => expect(await stored()).toBe('first'), PATIENCE)
    await project.delete('plan.md')
    await page.locator('.closed', { hasText: 'deleted' }).waitFor()
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
    expect(await style(caret, 'position')).toBe('relative') // of a style sheet that the editor makes
    const color = await style(caret, 'background-color') // of the caret itself
    expect(color).toMatch(/^rgb\(\d+, \d+, \d+\)$/)
    const pale = color.replace('rgb', 'rgba').replace(')', ', 0.2)')
    expect(await style(page.locator('.cm-ySelection'), 'background-color')).toBe(pale)
    expect(await style(page.locator('.cm-scroller'), 'display')).toBe('flex')
    expect(await style(page.locator('.cm-content'), 'white-space')).toContain('break-spaces')
    await page.getByLabel('Project').fill('another')
    await page.getByLabel('Project').press('Enter')
    await page.waitForURL(/project=another/)
    await page.getByText('Open a file').waitFor()
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
    await page.setViewportSize({ width: 390, height: 800 })
    await page.getByLabel('Path of a new file').focus()
    await page.keyboard.type('plan.md')
    await page.keyboard.press('Enter')
    await page.locator('.status', { hasText: 'saved' }).waitFor()
    await page.getByRole('button', { name: 'Delete' }).focus()
    await page.keyboard.press('Tab')
    await page.keyboard.type('by keyboard')
    await vi.waitFor(async () => expect(await stored()).toBe('by keyboard'), PATIENCE)
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390)
  })

  test('the client works in a worker too', async () => {
    const { outputFiles } = await build({
      stdin: { contents: WORKER, resolveDir: import.meta.dirname },
      bundle: true,
      write: false,
      format: 'esm'
    })
    const page = await context.newPage()
    await page.goto(`${gateway.url}/healthz`) // of the same origin; the demo's own policy lets no page make workers
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

  test.runIf(SCREENSHOTS)('screenshots', async () => {
    await project.putText('plan.md', '# Plan\n\n1. Write it down\n2. Let the agent do it\n3. Ship it\n')
    for (const path of ['notes/meeting.md', 'notes/ideas.md', 'src/main.py', 'README.md'])
      await project.putText(path, path)
    const page = await openPage('plan.md')
    await page.getByRole('button', { name: 'New session' }).click()
    await page.getByLabel('Prompt').fill('Turn the notes into tasks.')
    await page.getByRole('button', { name: 'Send' }).click()
    await page.locator('[data-polling=true]').waitFor()
    const [session] = (await project.listSessions()).sessions
    const [turn] = (await project.listTurns(session?.id ?? '')).turns
    await project.appendBlocks(session?.id ?? '', turn?.id ?? '', [
      { type: 'text', content: 'I read the notes and write the tasks into plan.md.' },
      { type: 'tool_use', content: { name: 'Edit', input: { file_path: 'plan.md' } } }
    ])
    await project.putText('notes/ideas.md', 'changed by the agent')
    await page.locator('.mark').waitFor()
    await page.locator('.block.tool_use').waitFor()
    const shoot = (name: string) => page.screenshot({ path: resolve(SCREENSHOTS ?? '', `demo-${name}.png`) })
    await page.emulateMedia({ colorScheme: 'light' })
    await shoot('light')
    await page.emulateMedia({ colorScheme: 'dark' })
    await shoot('dark')
    await page.setViewportSize({ width: 390, height: 844 })
    await shoot('narrow')
  })
})

async function setVisibility(page: Page, state: 'hidden' | 'visible'): Promise<void> {
  await page.evaluate((state) => {
    Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => state })
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => state === 'hidden' })
    document.dispatchEvent(new Event('visibilitychange'))
  }, state)
}
