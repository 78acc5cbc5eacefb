/** A real browser: Debian's Chromium, or the program named by CHROMIUM. */
import { existsSync } from 'node:fs'
import { type Browser, chromium } from 'playwright-core'
import { PATIENCE } from './until.js'

const PROGRAM = process.env.CHROMIUM ?? '/usr/bin/chromium'

/** Without a browser its tests are skipped, unless CI is set. */
export const HAS_BROWSER = existsSync(PROGRAM) || process.env.CI !== undefined

/** Each start uses a new user data directory. In all pages, waits and navigations have the time limit of `PATIENCE`. */
export async function startBrowser(...more: string[]): Promise<Browser> {
  const args = [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    ...more
  ]
  const browser = await chromium.launch({ executablePath: PROGRAM, headless: true, args, timeout: 180_000 })
  browser.on('context', (context) => context.setDefaultTimeout(PATIENCE.timeout))
  return browser
}
