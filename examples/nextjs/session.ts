export interface User {
  id: string
  /** The projects that the user may write. */
  projects: string[]
}

const USERS: Record<string, User> = {
  'session-of-ann': { id: 'ann', projects: ['demo'] }
}

/**
 * The signed-in user; null if there is none. Replace this by the sessions of your application (Auth.js, Clerk,
 * iron-session).
 */
export async function userOf(request: Request): Promise<User | null> {
  const session = /(?:^|; )session=([\w-]+)/.exec(request.headers.get('Cookie') ?? '')?.[1] ?? ''
  return Object.hasOwn(USERS, session) ? (USERS[session] ?? null) : null
}
