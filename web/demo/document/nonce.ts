/** By which the page's policy knows the style sheets that editors make. */
export const NONCE = document.querySelector<HTMLElement>('meta[property=csp-nonce]')?.nonce ?? ''
