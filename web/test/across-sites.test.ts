/** What a page of another origin can do in a real browser: nothing, unless its origin is configured. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Project } from '../src/project.js'
import { HAS_BROWSER, startBrowser } from './support/browser.js'
import { GatewayProcess } from './support/gateway.js'

const PAGE = '<!doctype html><meta charset="utf-8"><title>a page</title><body></body>'

/** Run in a page: attempts every kind of request on a project, and returns the results. */
async function attack(project: string): Promise<Record<string, string>> {
  const came: Record<string, string> = {}
  const note = async (name: string, work: () => Promise<string>) => {
    came[name] = await work().catch((error: unknown) => `refused: ${(error as Error).name}`)
  }
  const json = JSON.stringify({ from: 'plan.md', to: 'gone.md' })
  const bodies: Record<string, BodyInit> = {
    bytes: new TextEncoder().encode(json),
    text: json,
    form: new URLSearchParams({ from: 'plan.md' }),
    parts: (() => {
      const parts = new FormData()
      parts.set('from', 'plan.md')
      return parts
    })(),
    JSON: new Blob([json], { type: 'application/json' })
  }
  // The gateway does not use cookies: no page can read the response to a request with credentials.
  await note('read with credentials', async () => {
    const answer = await fetch(`${project}/files/plan.md?format=text`, { credentials: 'include' })
    return answer.text()
  })
  for (const mode of ['cors', 'no-cors'] as const) {
    const credentials = mode === 'cors' ? 'omit' : 'include'
    await note(`read ${mode}`, async () => {
      const answer = await fetch(`${project}/files/plan.md?format=text`, { mode, credentials })
      return answer.type === 'opaque' ? 'opaque' : answer.text()
    })
    for (const [kind, body] of Object.entries(bodies)) {
      for (const path of ['files/move', 'sessions', 'history/plan.md/restore']) {
        await note(`POST ${path} ${mode} ${kind}`, async () => {
          const answer = await fetch(`${project}/${path}`, { method: 'POST', mode, body, credentials })
          return answer.type === 'opaque' ? 'opaque' : String(answer.ok)
        })
      }
    }
  }
  await note('PUT', async () => String((await fetch(`${project}/files/plan.md`, { method: 'PUT', body: 'evil' })).ok))
  navigator.sendBeacon(`${project}/files/move`, new Blob([new TextEncoder().encode(json)]))
  const element = (tag: 'script' | 'img' | 'iframe', url: string) =>
    new Promise<string>((resolve) => {
      const made = document.createElement(tag)
      made.onload = () => resolve('loaded')
      made.onerror = () => resolve('refused')
      made.src = url
      document.body.append(made)
    })
  await note('script', async () => {
    await element('script', `${project}/files/config.js?format=text`)
    return String((window as unknown as Record<string, unknown>).token)
  })
  await note('img', () => element('img', `${project}/files/picture.svg?format=text`))
  await note('frame', async () => {
    await element('iframe', new URL('/', project).href)
    try {
      return document.querySelector('iframe')?.contentDocument === null ? 'foreign' : 'own'
    } catch {
      return 'foreign'
    }
  })
  await note('WebSocket', () => {
    const socket = new WebSocket(`${project.replace('http', 'ws')}/ws/plan.md`)
    return new Promise((resolve) => {
      socket.onmessage = () => resolve('read')
      socket.onerror = () => resolve('refused')
    })
  })
  await note('EventSource', () => {
    const source = new EventSource(`${project}/changes`)
    return new Promise((resolve) => {
      source.onerror = () => resolve('refused')
      source.addEventListener('ready', () => resolve('read'))
    })
  })
  const form = document.createElement('form')
  form.method = 'post'
  form.enctype = 'text/plain'
  form.target = 'sent'
  form.action = `${project}/files/move`
  const field = document.createElement('input')
  field.name = '{"from":"plan.md","to":"gone.md","x":"'
  field.value = '"}'
  form.append(field)
  const target = document.createElement('iframe')
  target.name = 'sent'
  document.body.append(form, target)
  await note(
    'form',
    () =>
      new Promise((resolve) => {
        target.onload = () => resolve('sent')
        form.submit()
      })
  )
  return came
}

describe.skipIf(!HAS_BROWSER)('a page of another origin in Chromium', () => {
  let pages: Server
  let gateway: GatewayProcess
  let browser: Browser
  let port = 0

  beforeAll(async () => {
    pages = createServer((_, response) => response.setHeader('Content-Type', 'text/html').end(PAGE))
    await new Promise<void>((resolve) => pages.listen(0, '127.0.0.1', resolve))
    port = (pages.address() as AddressInfo).port
    gateway = await new GatewayProcess({ GATEWAY_CORS_ORIGINS: `http://app.example:${port}` }).start()
    browser = await startBrowser(
      '--host-resolver-rules=MAP *.example 127.0.0.1',
      '--disable-features=LocalNetworkAccessChecks'
    )
  })

  afterAll(async () => {
    await browser.close()
    await gateway.stop()
    pages.close()
  })

  async function attackFrom(origin: string): Promise<{ came: Record<string, string>; project: Project }> {
    const project = gateway.project()
    await project.putText('plan.md', 'Ship it.')
    await project.putText('config.js', 'window.token = 42')
    await project.putText('picture.svg', '<svg xmlns="http://www.w3.org/2000/svg"/>')
    const page = await browser.newPage()
    await page.goto(origin)
    const came = await page.evaluate(attack, `${gateway.url}/api/projects/${project.name}`)
    await page.close()
    return { came, project }
  }

  test.each(['evil.example', 'localhost', '127.0.0.1'])('reads nothing and writes nothing (%s)', async (host) => {
    const { came, project } = await attackFrom(`http://${host}:${port}/`)
    expect((await project.readText('plan.md')).value).toBe('Ship it.')
    expect((await project.allFiles()).map((file) => file.path)).toEqual(['config.js', 'picture.svg', 'plan.md'])
    expect((await project.listSessions()).sessions).toEqual([])
    expect(came.script).toBe('undefined')
    expect(came.img).toBe('refused')
    expect(came.frame).toBe('foreign')
    expect(came.WebSocket).toBe('refused')
    expect(came.EventSource).toBe('refused')
    expect(
      Object.entries(came).filter(([, what]) => what === 'true' || what === 'read' || what.includes('Ship'))
    ).toEqual([])
  })

  test('reads nothing by a name that was made to mean this machine', async () => {
    await gateway.project('demo').putText('plan.md', 'Ship it.')
    const rebound = `http://evil.example:${new URL(gateway.url).port}`
    const page = await browser.newPage()
    const answer = await page.goto(`${rebound}/`)
    expect(answer?.status()).toBe(421)
    const read = await page.evaluate(async () => (await fetch('/api/projects/demo/files/plan.md?format=text')).status)
    expect(read).toBe(421)
    await page.close()
  })

  test('may do everything where its origin is configured', async () => {
    const { came, project } = await attackFrom(`http://app.example:${port}/`)
    expect(came['read cors']).toBe('Ship it.')
    expect(came.PUT).toBe('true')
    expect(came.WebSocket).toBe('read')
    expect(came.EventSource).toBe('read')
    expect((await project.readText('plan.md')).value).toBe('evil')
    expect((await project.allFiles()).map((file) => file.path)).toContain('gone.md')
  })

  describe('with the cookie of a session', () => {
    const HOST = 'files.victim.example'
    let application: Server
    let guarded: GatewayProcess

    beforeAll(async () => {
      application = createServer((request, response) => {
        const parts: Buffer[] = []
        request.on('data', (part) => parts.push(part))
        request.on('end', () => {
          const { cookie } = JSON.parse(Buffer.concat(parts).toString()) as { cookie?: string }
          const known = cookie?.includes('session=ann')
          const grants = { sub: 'ann', yjs_gateway: { projects: { '*': 'read write admin turns' } } }
          response.writeHead(known ? 200 : 401, { 'Content-Type': 'application/json' })
          response.end(JSON.stringify(known ? grants : {}))
        })
      })
      await new Promise<void>((resolve) => application.listen(0, '127.0.0.1', resolve))
      const { port: whose } = application.address() as AddressInfo
      guarded = await new GatewayProcess({
        GATEWAY_AUTH: 'required',
        GATEWAY_AUTHORIZE_URL: `http://127.0.0.1:${whose}/whose`,
        GATEWAY_HOSTS: HOST
      }).start()
    })

    afterAll(async () => {
      await guarded.stop()
      application.close()
    })

    // A page of the same site is sent the cookie of the session, regardless of its SameSite attribute.
    test.each(['evil.victim.example', 'evil.example'])('reads nothing and writes nothing (%s)', async (host) => {
      const origin = `http://${HOST}:${new URL(guarded.url).port}`
      const project = `${origin}/api/projects/p-${crypto.randomUUID()}`
      const context = await browser.newContext()
      await context.addCookies([{ name: 'session', value: 'ann', domain: '.victim.example', path: '/' }])
      const own = await context.newPage()
      await own.goto(`${origin}/healthz`)
      const write = (path: string, text: string) =>
        own.evaluate(async ([url, body]) => (await fetch(url, { method: 'PUT', body })).status, [
          `${project}/files/${path}`,
          text
        ] as const)
      expect(await write('plan.md', 'Ship it.')).toBe(201)
      expect(await write('config.js', 'window.token = 42')).toBe(201)
      expect(await write('picture.svg', '<svg xmlns="http://www.w3.org/2000/svg"/>')).toBe(201)

      const page = await context.newPage()
      await page.goto(`http://${host}:${port}/`)
      const came = await page.evaluate(attack, project)
      expect(
        Object.entries(came).filter(([, what]) => what === 'true' || what === 'read' || what.includes('Ship'))
      ).toEqual([])
      expect([came.script, came.img, came.frame, came.WebSocket, came.EventSource]).toEqual([
        'undefined',
        'refused',
        'foreign',
        'refused',
        'refused'
      ])
      const left = await own.evaluate(async (url) => {
        const { files } = await (await fetch(`${url}/files`)).json()
        const { sessions } = await (await fetch(`${url}/sessions`)).json()
        const text = await (await fetch(`${url}/files/plan.md?format=text`)).text()
        return { files: files.map(({ path }: { path: string }) => path), sessions, text }
      }, project)
      expect(left).toEqual({ files: ['config.js', 'picture.svg', 'plan.md'], sessions: [], text: 'Ship it.' })
      await context.close()
    })
  })
})
