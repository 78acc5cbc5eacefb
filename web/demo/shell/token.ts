/**
 * The token of the demo: requested from the visitor when the gateway refuses a request, and kept for the session of the
 * tab.
 */
const KEY = 'yjs-gateway token'

/** Create the token function of the client: returns the kept token at first, and asks the visitor after a refusal. */
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
