import { SignJWT } from 'jose'
import { userOf } from '../../../session'

/** In seconds. The client requests a new token before this one expires. */
const LIFETIME = 300

/** `GET /api/token`: a token that grants access to the projects of the signed-in user for a few minutes. */
export async function GET(request: Request): Promise<Response> {
  const user = await userOf(request)
  if (user === null) return new Response('Sign in first', { status: 401 })
  const projects = Object.fromEntries(user.projects.map((project) => [project, 'write']))
  const token = await new SignJWT({ yjs_gateway: { projects } })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setSubject(user.id) // the author of each version
    .setExpirationTime(`${LIFETIME} s`)
    .sign(signingKey())
  return new Response(token, { headers: { 'Content-Type': 'text/plain', 'Cache-Control': 'no-store' } })
}

/** The key that the gateway is given as `GATEWAY_JWT_KEY`. It must never reach the browser. */
function signingKey(): Uint8Array {
  const key = process.env.JWT_KEY
  if (key === undefined) throw new Error('JWT_KEY is not set')
  return new TextEncoder().encode(key)
}
