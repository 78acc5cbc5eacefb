/** The nonce with which the Content-Security-Policy of the page admits the style sheets of editors. */
export const NONCE = document.querySelector<HTMLElement>('meta[property=csp-nonce]')?.nonce ?? ''
