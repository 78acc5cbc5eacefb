/** The token of the demo: asked for where the gateway refuses a request without one, and kept as long as the tab is. */
const KEY = 'yjs-gateway token'

/** What the client asks for a token: at first the kept one, or none; after a refusal what is typed in. */
export function askForToken(): () => string {
  let calls = 0
  let declined = false
  return () => {
    calls += 1
    const kept = sessionStorage.getItem(KEY) ?? ''
    if (calls === 1 || declined) return kept
    const typed = window.prompt('This gateway needs a token. `yjs-gateway token create` makes one.')?.trim() ?? ''
    declined = typed === ''
    sessionStorage.setItem(KEY, typed)
    return typed
  }
}
