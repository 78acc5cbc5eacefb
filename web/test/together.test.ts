/**
 * A person in Chromium and two agents write in one file at the same time, and a live folder has it. TOGETHER_SECONDS says
 * for how long; a soak is TOGETHER_SECONDS=600. With TOGETHER_SAVES=1 the file is saved in the folder, too: an editor that
 * saves in the moment between its last look at the file and the rename saves an older text with its edit.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { HAS_BROWSER, startBrowser } from './support/browser.js'
import { GatewayProcess, PYTHON, ROOT } from './support/gateway.js'

const SAVES = process.env.TOGETHER_SAVES === '1'
const SECONDS = Number(process.env.TOGETHER_SECONDS ?? 6)
const PATIENCE = { timeout: 120_000, interval: 100 }
/** Each writes in a line of its own; the person in the last one. */
const TEXT = 'ann:\nben:\nben ends\nfolder:\nperson:'
const gateway = new GatewayProcess()
let browser: Browser

describe.skipIf(!HAS_BROWSER)('one file', { timeout: 480_000 + SECONDS * 1000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'together-'))
  const file = join(folder, 'a.md')
  let live: ChildProcess | undefined

  beforeAll(async () => {
    await gateway.start()
    browser = await startBrowser()
  })

  afterAll(async () => {
    await browser.close()
    if (live?.exitCode === null) {
      const ended = once(live, 'exit')
      live.kill()
      await ended
    }
    await gateway.stop()
    rmSync(folder, { recursive: true, force: true })
  })

  test('has everything that everybody writes, once and everywhere', async () => {
    const project = gateway.project()
    await project.putText('a.md', TEXT)
    const env = { ...process.env, GATEWAY_URL: gateway.url, GATEWAY_PROJECT: project.name }
    live = spawn(PYTHON, ['-m', 'gateway', 'live', folder], { cwd: ROOT, env, stdio: 'ignore' })
    await expect.poll(() => existsSync(file), PATIENCE).toBe(true)

    // CodeMirror draws only the lines that are in view
    const context = await browser.newContext({ viewport: { width: 1600, height: 1000 + 20 * SECONDS } })
    context.setDefaultTimeout(120_000)
    const page = await context.newPage()
    await page.goto(`${gateway.url}/?project=${project.name}`)
    await page.getByRole('button', { name: 'a.md' }).click()
    await page.locator('.status', { hasText: 'saved' }).waitFor()
    const editor = page.locator('.cm-content')
    await editor.locator('.cm-line', { hasText: 'person:' }).click()
    await page.locator('.cm-content:focus').waitFor()
    await page.keyboard.press('Control+End')

    const until = Date.now() + SECONDS * 1000
    /** Write again and again until the time is over; returns how often. */
    const again = async (write: (word: string) => Promise<boolean>, name: string, writes = true): Promise<number> => {
      if (!writes) return 0
      let count = 0
      while (Date.now() < until || count < 3) {
        if (await write(`${name}${count + 1}`)) count += 1
        await pause(Math.random() * 200)
      }
      return count
    }
    const counts = await Promise.all([
      again(async (word) => {
        await page.keyboard.type(` ${word}`, { delay: 10 })
        return true
      }, 'p'),
      again(async (word) => {
        await project.edit('a.md', async (text) => {
          await pause(Math.random() * 100) // an agent thinks
          return text.replace(/^ann:.*$/m, (line) => `${line} ${word}`)
        })
        return true
      }, 'a'),
      again(async (word) => {
        const [{ version = 0 } = {}] = (await project.history('a.md', { limit: 1 })).versions
        await pause(Math.random() * 100)
        const edits = [{ old: '\nben ends', new: ` ${word}\nben ends` }]
        await project.editText('a.md', edits, { baseVersion: version })
        return true
      }, 'b'),
      again(
        async (word) => {
          const before = readFileSync(file, 'utf8')
          await pause(20)
          const after = before.replace(/^folder:.*$/m, (line) => `${line} ${word}`)
          const aside = join(folder, '.a.md.tmp')
          writeFileSync(aside, after)
          if (readFileSync(file, 'utf8') !== before) return false // as an editor that reads a file anew when it changed
          renameSync(aside, file)
          return true
        },
        'f',
        SAVES
      )
    ])

    const words = (text: string) => text.split(/\s+/).filter((word) => /^[abpf]\d+$/.test(word))
    const wanted = counts.flatMap((count, who) => Array.from({ length: count }, (_, n) => `${'pabf'[who]}${n + 1}`))
    await expect.poll(async () => words((await project.readText('a.md')).value).sort(), PATIENCE).toEqual(wanted.sort())
    const text = (await project.readText('a.md')).value
    await expect.poll(() => readFileSync(file, 'utf8'), PATIENCE).toBe(text)
    const shown = () =>
      editor.evaluate((content) => {
        const copy = content.cloneNode(true) as HTMLElement
        for (const caret of copy.querySelectorAll('.cm-ySelectionCaret')) caret.remove()
        return [...copy.querySelectorAll('.cm-line')].map((line) => line.textContent).join('\n')
      })
    await expect.poll(shown, PATIENCE).toBe(text)
    expect(counts.slice(0, 3).every((count) => count >= 3)).toBe(true)
    await context.close()
  })
})
