/** Credentials in a real browser: npm's y-websocket with its token as a parameter, and a ticket for `EventSource`. */
import { createHmac } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { build } from 'esbuild'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { GatewayClient } from '../src/index.js'
import { HAS_BROWSER, startBrowser } from './support/browser.js'
import { GatewayProcess } from './support/gateway.js'

const SECRET = 'a secret of an application, 32 bytes or more'
const PAGE = '<!doctype html><meta charset="utf-8"><title>an application</title><body></body>'
/** The page of the application: the stock provider, and functions for the test. */
const SCRIPT = `
import * as Y from 'yjs'
import { WebsocketProvider } from 'y-websocket'
window.open_ = (server, token) => {
  const doc = new Y.Doc()
  const provider = new WebsocketProvider(server, 'a.md', doc, { params: { token }, disableBc: true })
  const text = doc.getText('content')
  const ended = new Promise((resolve) => provider.on('closed', ({ code }) => resolve(code)))
  const until = (wanted) => new Promise((resolve) => {
    const look = () => text.toString().includes(wanted) && resolve(text.toString())
    doc.on('update', look)
    look()
  })
  return window.editor = { doc, provider, text, ended, until }
}
`

interface Editor {
  provider: { params: Record<string, string>; connect(): void }
  text: { insert(at: number, text: string): void; length: number; toString(): string }
  ended: Promise<number>
  until(wanted: string): Promise<string>
}

declare global {
  interface Window {
    editor: Editor
    open_(server: string, token: string): Editor
  }
}

function sign(seconds: number, grant: object, subject = 'ann'): string {
  const claims = { sub: subject, exp: Date.now() / 1000 + seconds, yjs_gateway: grant }
  const parts = [{ alg: 'HS256', typ: 'JWT' }, claims].map((part) => Buffer.from(JSON.stringify(part)))
  const signed = parts.map((part) => part.toString('base64url')).join('.')
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`
}

/** Seconds that a token counts: on a slow machine it may end before it is used, and a longer one is tried. */
const LIVES = [6, 20, 60]

describe.skipIf(!HAS_BROWSER)('an application in Chromium', () => {
  let application: Server
  let gateway: GatewayProcess
  let browser: Browser
  let script: string
  let origin: string

  beforeAll(async () => {
    application = createServer((_, response) => response.setHeader('Content-Type', 'text/html').end(PAGE))
    await new Promise<void>((resolve) => application.listen(0, '127.0.0.1', resolve))
    origin = `http://127.0.0.1:${(application.address() as AddressInfo).port}`
    gateway = new GatewayProcess({
      GATEWAY_AUTH: 'required',
      GATEWAY_JWT_KEY: SECRET,
      GATEWAY_CORS_ORIGINS: origin
    })
    await gateway.start()
    browser = await startBrowser()
    const { outputFiles } = await build({
      stdin: { contents: SCRIPT, resolveDir: import.meta.dirname },
      bundle: true,
      write: false,
      format: 'iife'
    })
    script = outputFiles[0]?.text ?? ''
  })

  afterAll(async () => {
    await browser.close()
    await gateway.stop()
    application.close()
  })

  /** Open a page of the application with the stock provider. */
  async function open(project: string, token: string): Promise<Page> {
    const page = await (await browser.newContext()).newPage()
    await page.goto(origin)
    await page.addScriptTag({ content: script })
    const server = `${gateway.url.replace('http', 'ws')}/api/projects/${project}/ws`
    await page.evaluate(([server, token]) => void window.open_(server ?? '', token ?? ''), [server, token])
    return page
  }

  const type = (page: Page, text: string) =>
    page.evaluate((text) => window.editor.text.insert(window.editor.text.length, text), text)
  const until = (page: Page, text: string) => page.evaluate((text) => window.editor.until(text), text)

  test('two edit with their tokens as parameters, one of which ends while its owner types', async () => {
    const grant = { projects: { '*': 'write' } }
    /** Two pages; the first one's text has come to the other one before its token ended. Undefined: it has not. */
    const openTwo = async (seconds: number) => {
      const project = `p-${crypto.randomUUID()}`
      const bob = await open(project, sign(600, grant, 'bob'))
      const ann = await open(project, sign(seconds, grant))
      await type(ann, 'before ')
      const ended = ann.evaluate(() => window.editor.ended).then(() => undefined)
      return Promise.race([until(bob, 'before ').then(() => [ann, bob] as const), ended])
    }
    let two: readonly [Page, Page] | undefined
    for (const seconds of LIVES) two ??= await openTwo(seconds)
    const [ann, bob] = two as readonly [Page, Page]
    expect(await ann.evaluate(() => window.editor.ended)).toBe(4401)
    await type(ann, 'while it had ended ')
    await ann.evaluate(
      (token) => {
        window.editor.provider.params = { token }
        window.editor.provider.connect()
      },
      sign(600, grant)
    )
    await type(ann, 'and after')
    expect(await until(bob, 'and after')).toBe('before while it had ended and after')
  })

  test.each([
    ['a wrong token', () => 'ygw_wrong', 4401],
    ['a token for another project', () => sign(600, { projects: { other: 'write' } }), 4403]
  ])('%s is refused for good', async (_, token, code) => {
    const page = await open(`p-${crypto.randomUUID()}`, token())
    expect(await page.evaluate(() => window.editor.ended)).toBe(code)
  })

  test('the demo asks for a token where it needs one, and keeps it as long as its tab is there', async () => {
    const project = `p-${crypto.randomUUID()}`
    const admin = new GatewayClient(gateway.url, { token: sign(600, { admin: true }) })
    await admin.project(project).putText('seen.md', 'text')
    const page = await (await browser.newContext()).newPage()
    const asked: string[] = []
    page.on('dialog', (dialog) => {
      asked.push(dialog.message())
      void dialog.accept(sign(600, { projects: { [project]: 'write' } }))
    })
    for (const round of [1, 2]) {
      await page.goto(`${gateway.url}/?project=${project}`)
      await page.getByText('seen.md').first().waitFor()
      expect([round, asked.length]).toEqual([round, 1])
    }
  })

  test('EventSource opens with a ticket, once, and hears when the credential ends', async () => {
    const project = `p-${crypto.randomUUID()}`
    const admin = new GatewayClient(gateway.url, { token: sign(600, { admin: true }) })
    await admin.project(project).putText('a.md', 'text')
    const page = await (await browser.newContext()).newPage()
    await page.goto(origin)
    const url = `${gateway.url}/api/projects/${project}`
    let heard: string[] = []
    for (const seconds of LIVES) {
      if (heard.length === 0)
        heard = await page.evaluate(listening, [url, sign(seconds, { projects: { [project]: 'write' } })] as const)
    }
    expect(heard).toEqual(['change', 'ready', 'expired'])
  })
})

/** Run in a page: open an `EventSource` with a ticket; resolves to its events when it has given up. */
async function listening([url, token]: readonly [string, string]): Promise<string[]> {
  const headers = { Authorization: `Bearer ${token}` }
  const asked = await fetch(`${url}/tickets`, { method: 'POST', headers })
  if (asked.status === 401) return []
  const { ticket } = await asked.json()
  const source = new EventSource(`${url}/changes?ticket=${ticket}`)
  const heard: string[] = []
  return new Promise<string[]>((resolve) => {
    for (const name of ['change', 'ready', 'expired']) source.addEventListener(name, () => heard.push(name))
    source.onerror = () => {
      // `EventSource` reconnects with the used ticket: 401, after which it gives up.
      if (source.readyState === EventSource.CLOSED) resolve(heard)
    }
  })
}
