/** Many pages of one browser: one of them holds the event stream and forwards it to the others. */
import { createHmac } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { build } from 'esbuild'
import type { Browser, BrowserContext, Page, Request } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { GatewayClient } from '../src/client.js'
import { HAS_BROWSER, startBrowser } from './support/browser.js'
import { GatewayProcess } from './support/gateway.js'
import type { SharedStreamPage } from './support/shared-stream-page.js'
import { PATIENCE } from './support/until.js'

declare const window: { page: SharedStreamPage; opened: ReturnType<SharedStreamPage['open']> }

const SECRET = 'a secret of an application, 32 bytes or more'
let browser: Browser
let context: BrowserContext
let gateway: GatewayProcess
let script: string
/** The pages that hold an event stream. */
let streams: Map<Request, Page>
/** How many event streams have been opened. */
let opened: number

function sign(subject: string, projects: object): string {
  const claims = { sub: subject, exp: Date.now() / 1000 + 600, yjs_gateway: { projects } }
  const parts = [{ alg: 'HS256', typ: 'JWT' }, claims].map((part) => Buffer.from(JSON.stringify(part)))
  const signed = parts.map((part) => part.toString('base64url')).join('.')
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`
}

describe.skipIf(!HAS_BROWSER)('pages of one Chromium', () => {
  beforeAll(async () => {
    gateway = await new GatewayProcess().start()
    browser = await startBrowser()
    const entryPoints = [`${import.meta.dirname}/support/shared-stream-page.ts`]
    const { outputFiles } = await build({ entryPoints, bundle: true, write: false, format: 'esm' })
    script = outputFiles[0]?.text ?? ''
  })

  beforeEach(async () => {
    context = await browser.newContext()
    streams = new Map()
    opened = 0
    context.on('request', (request) => {
      if (request.headers().accept !== 'text/event-stream') return
      const page = request.frame().page()
      opened += 1
      streams.set(request, page)
      page.on('crash', () => streams.delete(request))
      page.on('close', () => streams.delete(request))
    })
    context.on('requestfailed', (request) => streams.delete(request))
    context.on('requestfinished', (request) => streams.delete(request))
  })

  afterEach(() => context.close())

  afterAll(async () => {
    await browser.close()
    await gateway.stop()
  })

  async function blank(url = gateway.url): Promise<Page> {
    const page = await context.newPage()
    await page.goto(`${url}/healthz`)
    await page.addScriptTag({ content: script, type: 'module' })
    await page.waitForFunction(() => window.page !== undefined)
    return page
  }

  /**
   * Open a page that shows a file, once it receives changes: it reads the file when it begins, and again when it has
   * joined the stream.
   */
  async function open(project: string, path = 'a.md', { url = gateway.url, token = '' } = {}): Promise<Page> {
    const page = await blank(url)
    await page.evaluate(
      ([project, path, token]) =>
        new Promise<void>((resolve) => {
          window.opened = window.page.open(project, path, token || undefined)
          window.opened.provider.on('sync', (synced) => synced && resolve())
        }),
      [project, path, token] as const
    )
    const reads = () =>
      page.evaluate(
        (path) =>
          window.opened.requests.filter((each) => each.startsWith('GET') && each.includes(`/files/${path}`)).length,
        path
      )
    await vi.waitFor(async () => expect(await reads()).toBeGreaterThanOrEqual(2), PATIENCE)
    return page
  }

  const type = (page: Page, words: string) =>
    page.evaluate((words) => window.opened.text.insert(window.opened.text.length, words), words)
  const until = (page: Page, words: string) => page.evaluate((words) => window.opened.until(words), words)
  const leader = () =>
    vi.waitFor(() => {
      expect(streams.size).toBe(1)
      return [...streams.values()][0] as Page
    }, PATIENCE)

  test('seven windows share one stream, and what one types comes to the others with it', async () => {
    const project = gateway.project()
    await project.putText('a.md', 'Begun. ')
    const pages: Page[] = []
    for (let number = 0; number < 7; number += 1) pages.push(await open(project.name))
    const [first, last] = [pages[0] as Page, pages[6] as Page]
    await leader()
    await type(last, 'The seventh. ')
    await Promise.all(pages.map((page) => until(page, 'The seventh.')))
    const expected = [['PATCH'], ...Array(6).fill([])]
    for (let round = 1; ; round += 1) {
      const before = await Promise.all(pages.map((page) => page.evaluate(() => window.opened.requests.length)))
      await type(first, `The first, ${round}. `)
      await Promise.all(pages.map((page) => until(page, `The first, ${round}.`)))
      const asked = await Promise.all(
        pages.map((page, number) => page.evaluate((known) => window.opened.requests.slice(known), before[number]))
      )
      await leader()
      const methods = asked.map((requests) => requests.map((request) => request.split(' ')[0]))
      // On a slow machine a leader that has not answered for three seconds is replaced. Then the pages must come to rest.
      if (opened > 1 && !isDeepStrictEqual(methods, expected)) continue
      expect(methods).toEqual(expected)
      return
    }
  })

  test.each(['is closed', 'crashes', 'is frozen'])(
    'when the leader %s another one takes over, and nothing is missed',
    async (how) => {
      const project = gateway.project()
      await project.putText('a.md', 'Begun. ')
      const pages = [await open(project.name), await open(project.name), await open(project.name)]
      await Promise.all(pages.map((page) => until(page, 'Begun.')))
      await project.putText('a.md', 'Begun. All hear. ')
      await Promise.all(pages.map((page) => until(page, 'All hear.')))
      const leading = await leader()
      const others = pages.filter((page) => page !== leading)
      if (how === 'is closed') await leading.close()
      // The event that Chromium dispatches before it freezes a page. Chromium freezes only hidden pages, and no page is
      // hidden when headless.
      if (how === 'is frozen') await leading.evaluate(() => document.dispatchEvent(new Event('freeze')))
      if (how === 'crashes') {
        const session = await context.newCDPSession(leading)
        session.send('Page.crash').catch(() => undefined)
      }
      await project.putText('a.md', 'Begun. All hear. Meanwhile. ')
      await Promise.all(others.map((page) => until(page, 'Meanwhile.')))
      await vi.waitFor(async () => expect(others).toContain(await leader()), PATIENCE)
      if (how !== 'is frozen') return
      await leading.evaluate(() => document.dispatchEvent(new Event('resume')))
      await until(leading, 'Meanwhile.')
    }
  )

  test('a leader that does not answer is replaced', async () => {
    const project = gateway.project()
    const { cursor } = (await project.putText('a.md', 'one')).value
    const [hung, page] = [await blank(), await blank()]
    const hear = (file: string) =>
      page.evaluate(([name, cursor, file]) => window.page.hear(name, cursor, file, 200), [
        project.name,
        cursor,
        file
      ] as const)
    const heard = hear('b.md')
    await leader()
    const name = await page.evaluate(async () => (await navigator.locks.query()).held?.[0]?.name ?? '')
    await project.putText('b.md', 'two')
    await heard
    await hung.evaluate(
      (name) =>
        new Promise<void>((resolve) => {
          void navigator.locks
            .request(name, () => {
              resolve()
              return new Promise(() => undefined)
            })
            .catch(() => undefined)
        }),
      name
    )
    const again = hear('c.md')
    await project.putText('c.md', 'three')
    await again
  })

  test('pages with other credentials or other grants have a stream of their own', async () => {
    const guarded = await new GatewayProcess({ GATEWAY_AUTH: 'required', GATEWAY_JWT_KEY: SECRET }).start()
    try {
      const ann = sign('ann', { demo: 'write' })
      const { url } = guarded
      await new GatewayClient(url, { token: ann }).project('demo').putText('a.md', '')
      const pages = [
        await open('demo', 'a.md', { url, token: ann }),
        await open('demo', 'a.md', { url, token: ann }),
        await open('demo', 'a.md', { url, token: sign('bob', { demo: 'write' }) }),
        await open('demo', 'a.md', { url, token: sign('ann', { demo: { scope: 'write', paths: ['a.md'] } }) })
      ]
      for (const [number, page] of pages.entries()) {
        await type(page, `Of page ${number}. `)
        await Promise.all(pages.map((each) => until(each, `Of page ${number}.`)))
      }
      await vi.waitFor(() => {
        const holders = new Set(streams.values())
        expect(holders.size).toBe(3)
        expect(pages.slice(0, 2).filter((page) => holders.has(page))).toHaveLength(1)
      }, PATIENCE)
    } finally {
      await guarded.stop()
    }
  })
})
