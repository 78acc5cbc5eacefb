// Measures pages in Chromium, all at the same time, each behind a proxy of its own that counts what passes on the wire:
// node measure.mjs GATEWAY SECONDS PERIOD. Prints a list of what was measured, as JSON.
import { createRequire } from 'node:module'
import { connect, createServer } from 'node:net'

const require = createRequire(new URL('../../web/package.json', import.meta.url))
const { build } = require('esbuild')
const { chromium } = require('playwright-core')

const WAYS = ['setInterval', 'poll', 'long-poll', 'sse', 'websocket']
const STATES = ['visible', 'hidden', 'mobile']
const [gateway, seconds, period] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])]
// The pages come from this script, not from the gateway's address, which Chromium would ask the user about.
const LOCAL = '--disable-features=LocalNetworkAccessChecks'
const PATH = 'plan.md'
const QUIET_MS = 5_000
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** Passes everything on, and counts. */
class Proxy {
  bytes = 0
  wakeUps = 0
  last = Number.NEGATIVE_INFINITY

  async start() {
    const { hostname, port } = new URL(gateway)
    this.server = createServer((client) => {
      const server = connect(Number(port), hostname)
      for (const [from, to] of [[client, server], [server, client]]) {
        from.on('data', (chunk) => this.count(chunk.length))
        from.on('error', () => to.destroy())
        from.pipe(to)
      }
    })
    await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve))
    return `http://127.0.0.1:${this.server.address().port}`
  }

  count(bytes) {
    const now = performance.now()
    if (now - this.last > QUIET_MS) this.wakeUps += 1
    this.last = now
    this.bytes += bytes
  }
}

/** In the page before anything else: counts the timers that fire. */
function countTimers() {
  window.timersFired = 0
  for (const name of ['setTimeout', 'setInterval']) {
    const real = window[name]
    window[name] = (callback, ...others) =>
      real((...given) => {
        window.timersFired += 1
        callback(...given)
      }, ...others)
  }
}

class Subject {
  requests = 0

  constructor(way, state, code) {
    Object.assign(this, { way, state, code, project: `browser-${way}-${state}` })
    this.proxy = new Proxy()
  }

  async open(browser) {
    const origin = await this.proxy.start()
    await this.write('The plan, as long as plans are. '.repeat(256))
    const mobile = this.state === 'mobile' ? { isMobile: true, hasTouch: true } : {}
    const context = await browser.newContext({ viewport: { width: 400, height: 800 }, ...mobile })
    await context.addInitScript(countTimers)
    this.page = await context.newPage()
    const type = { js: 'text/javascript', html: 'text/html' }
    await this.page.route('**/page.js', (route) => route.fulfill({ contentType: type.js, body: this.code }))
    const html = '<!doctype html><meta charset=utf-8><body><script type=module src=/page.js></script>'
    await this.page.route('**/page?*', (route) => route.fulfill({ contentType: type.html, body: html }))
    const query = new URLSearchParams({ way: this.way, project: this.project, path: PATH })
    await this.page.goto(`${origin}/page?${query}`)
    await this.page.locator('body[data-ready=true]').waitFor({ state: 'attached', timeout: 120_000 })
    if (this.state === 'hidden') await this.page.evaluate(hide)
    this.page.on('request', () => (this.requests += 1))
    this.page.on('websocket', () => (this.requests += 1))
    this.cdp = await context.newCDPSession(this.page)
    await this.cdp.send('Performance.enable')
  }

  /** As another person, past the proxy. */
  async write(text) {
    const url = `${gateway}/api/projects/${this.project}/files/${PATH}`
    const answer = await fetch(url, { method: 'PUT', body: text, headers: { 'Content-Type': 'text/plain' } })
    if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`)
  }

  async counts() {
    const { metrics } = await this.cdp.send('Performance.getMetrics')
    const script = metrics.find((each) => each.name === 'ScriptDuration').value * 1_000
    const timers = await this.page.evaluate(() => window.timersFired)
    return { requests: this.requests, bytes: this.proxy.bytes, timers, wake_ups: this.proxy.wakeUps, script_ms: script }
  }

  /** The user is there, and somebody else writes. */
  async live(turn) {
    if (this.state !== 'hidden') await this.page.mouse.move(10 + (turn % 50), 10)
    await this.write(`The plan, as long as plans are. ${'It goes on. '.repeat(600)}${turn}`)
  }
}

/** What the page is told when it is hidden. */
function hide() {
  Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => 'hidden' })
  Object.defineProperty(document, 'hidden', { configurable: true, get: () => true })
  document.dispatchEvent(new Event('visibilitychange'))
}

const { outputFiles } = await build({
  entryPoints: [new URL('page.js', import.meta.url).pathname],
  bundle: true,
  minify: true,
  write: false,
  format: 'esm',
  target: 'es2022',
  nodePaths: [new URL('../../web/node_modules', import.meta.url).pathname]
})
const code = outputFiles[0].text
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update', LOCAL]
})
try {
  const subjects = WAYS.flatMap((way) => STATES.map((state) => new Subject(way, state, code)))
  for (const subject of subjects) await subject.open(browser)
  // The first period is not counted: it begins with what it costs to open a page.
  const turns = Math.max(1, Math.round(seconds / period))
  let before = []
  for (let turn = 0; turn <= turns; turn += 1) {
    if (turn === 1) before = await Promise.all(subjects.map((subject) => subject.counts()))
    const next = performance.now() + period * 1_000
    await Promise.all(subjects.map((subject) => subject.live(turn)))
    await pause(next - performance.now())
  }
  const after = await Promise.all(subjects.map((subject) => subject.counts()))
  const hours = (turns * period) / 3_600
  const rows = subjects.map(({ way, state }, index) => {
    const perHour = Object.entries(after[index]).map(([name, value]) => [name, (value - before[index][name]) / hours])
    return { way, state, ...Object.fromEntries(perHour) }
  })
  console.log(JSON.stringify(rows))
} finally {
  await browser.close()
}
process.exit(0)
