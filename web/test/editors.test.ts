/** Stock editors from npm, with carets, in a real browser, on every transport. */
import { build } from 'esbuild'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { HAS_BROWSER, startBrowser } from './support/browser.js'
import { focusLexical, focusTiptap } from './support/caret.js'
import { GatewayProcess } from './support/gateway.js'

const TRANSPORTS = ['poll', 'long-poll', 'sse', 'auto', 'websocket'] as const
const gateway = new GatewayProcess()
const faults: Error[] = []
let browser: Browser
let context: BrowserContext
let script: string

describe.skipIf(!HAS_BROWSER)('in Chromium', () => {
  beforeAll(async () => {
    await gateway.start()
    browser = await startBrowser()
    const { outputFiles } = await build({
      entryPoints: [`${import.meta.dirname}/support/editors-page.tsx`],
      bundle: true,
      write: false,
      format: 'esm',
      jsx: 'automatic',
      define: { 'process.env.NODE_ENV': '"production"' }
    })
    script = outputFiles[0]?.text ?? ''
  })

  beforeEach(async () => {
    context = await browser.newContext()
  })

  afterEach(async () => {
    await context.close()
    expect(faults.splice(0)).toEqual([])
  })

  afterAll(async () => {
    await browser.close()
    await gateway.stop()
  })

  /** Open a page with an editor, and wait until its document is in sync. */
  async function open(editor: string, project: string, transport: string, name: string): Promise<Page> {
    const page = await context.newPage()
    page.on('pageerror', (fault) => faults.push(fault))
    const query = new URLSearchParams({ editor, project, transport, name, path: 'page.doc' })
    await page.goto(`${gateway.url}/healthz?${query}`)
    await page.setContent('<!doctype html><title>Editor</title><body></body>')
    await page.addScriptTag({ content: script, type: 'module' })
    await page.locator('body[data-synced=true] [contenteditable=true]').waitFor({ state: 'attached' })
    return page
  }

  /** Type at the end of the text. */
  async function type(page: Page, editor: string, words: string): Promise<void> {
    const focus = editor === 'tiptap' ? focusTiptap : focusLexical
    await focus(page, '[contenteditable=true]')
    await page.keyboard.type(words)
  }

  /** The text that an editor shows, without the carets of other clients. */
  async function text(page: Page): Promise<string | undefined> {
    return page.evaluate(() => {
      const content = document.querySelector('[contenteditable=true]')?.cloneNode(true) as HTMLElement
      for (const caret of content.querySelectorAll('.collaboration-carets__caret')) caret.remove()
      return content.textContent?.replaceAll('\u2060', '')
    })
  }

  /** Wait until an editor shows a text. */
  async function shows(page: Page, words: string): Promise<void> {
    await expect.poll(() => text(page)).toBe(words)
  }

  test.each(['tiptap', 'lexical'].flatMap((editor) => TRANSPORTS.map((transport) => [editor, transport] as const)))(
    '%s types and is typed to (%s)',
    async (editor, transport) => {
      const { name } = gateway.project()
      const one = await open(editor, name, transport, 'one')
      await type(one, editor, 'from one')
      const two = await open(editor, name, transport, 'two')
      await shows(two, 'from one')
      await type(two, editor, ', from two')
      await Promise.all([shows(one, 'from one, from two'), shows(two, 'from one, from two')])
      if (editor === 'tiptap' && transport === 'websocket') {
        await one.locator('.collaboration-carets__label', { hasText: 'two' }).waitFor()
      }
    }
  )
})
