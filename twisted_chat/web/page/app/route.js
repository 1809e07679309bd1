// @ts-check
// Addresses inside the page: `#/room` and `#/room/seq`; an invitation may add `?name=…` or `?token=…`.

/** @typedef {{ room: string, seq: number, name: string | null, token: string | null }} Route */

/** @param {string} hash @returns {Route | null} */
export function readRoute(hash) {
  const match = /^#\/([^/?]+)(?:\/(\d{1,15}))?(?:\?(.*))?$/.exec(hash);
  if (!match) return null;
  const asked = new URLSearchParams(match[3] ?? "");
  try {
    const room = decodeURIComponent(match[1]).normalize("NFC");
    return { room, seq: Number(match[2] ?? 0), name: asked.get("name"), token: asked.get("token") };
  } catch {
    return null;
  }
}

/** @param {string} room @param {number} [seq] */
export function address(room, seq) {
  return `#/${encodeURIComponent(room)}${seq ? `/${seq}` : ""}`;
}

/** Whether a room may be called so (docs/protocol.rst). @param {string} name */
export function isRoomName(name) {
  return name.length <= 64 && /^[\p{L}\p{N}][\p{L}\p{N}\p{M}_.~@+-]*$/u.test(name);
}

/** The secret of a link to sign up with. @typedef {{ kind: "invite" | "setup", secret: string }} Invitation */

/** @param {string} hash @returns {Invitation | null} */
export function readInvitation(hash) {
  const match = /^#(invite|setup)=([\w.~-]{1,128})$/.exec(hash);
  return match && { kind: match[1] === "setup" ? "setup" : "invite", secret: match[2] };
}
