/** The route of `examples/nextjs` that signs tokens: the gateway accepts them for the projects that they name. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { GatewayClient } from '../src/client.js'
import { GatewayProcess, ROOT } from './support/gateway.js'

const KEY = 'a key of the application, with 32 bytes or more'
const EXAMPLES = join(ROOT, 'examples')
const gateway = new GatewayProcess({ GATEWAY_JWT_KEY: KEY, GATEWAY_AUTH: 'required' })

describe.skipIf(!existsSync(join(EXAMPLES, 'node_modules/jose')))('the token route', () => {
  let route: (request: Request) => Promise<Response>

  beforeAll(async () => {
    vi.stubEnv('JWT_KEY', KEY)
    const module = join(EXAMPLES, 'nextjs/app/api/token/route.ts')
    route = (await import(/* @vite-ignore */ module)).GET
    await gateway.start()
  })

  afterAll(async () => {
    vi.unstubAllEnvs()
    await gateway.stop()
  })

  function ask(cookie: string): Promise<Response> {
    return route(new Request('http://localhost:3000/api/token', { headers: { Cookie: cookie } }))
  }

  test.each(['', 'session=nobody', 'session=__proto__', 'other=session-of-ann'])('nobody by %j', async (cookie) => {
    expect((await ask(cookie)).status).toBe(401)
  })

  test('a signed-in user writes as author, in no other project', async () => {
    const answer = await ask('theme=dark; session=session-of-ann')
    expect(answer.headers.get('Cache-Control')).toBe('no-store')
    const client = new GatewayClient(gateway.url, { token: await answer.text() })
    await client.project('demo').putText('a.md', 'of ann')
    expect((await client.project('demo').history('a.md')).versions[0]?.author).toBe('ann')
    await expect(client.project('other').putText('a.md', 'of ann')).rejects.toMatchObject({ status: 404 })
  })
})
