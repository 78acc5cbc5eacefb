export interface User {
  id: string
  /** Which they may write. */
  projects: string[]
}

const USERS: Record<string, User> = {
  'session-of-ann': { id: 'ann', projects: ['demo'] }
}

/** Who is signed in. Replace this by the sessions of your application (Auth.js, Clerk, iron-session). */
export async function userOf(request: Request): Promise<User | null> {
  const session = /(?:^|; )session=([\w-]+)/.exec(request.headers.get('Cookie') ?? '')?.[1] ?? ''
  return Object.hasOwn(USERS, session) ? (USERS[session] ?? null) : null
}
