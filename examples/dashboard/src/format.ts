const EUROS = new Intl.NumberFormat('en', { style: 'currency', currency: 'EUR' })
const TIME = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' })

export const money = (cents: number): string => EUROS.format(cents / 100)
export const time = (ms: number): string => TIME.format(ms)
