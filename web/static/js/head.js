// The beginning of a file: as much of it as shows how it is read, or that it cannot be read any more.

import { UnreadableFileError } from "./errors.js";

const HEAD_BYTES = 1 << 20;
const NEWLINE = 10;

// ZIP (XLSX, ODS), the container of old Excel files, and Parquet: what is needed to read these stands at their end.
const WHOLE = [
  [0x50, 0x4b],
  [0xd0, 0xcf, 0x11, 0xe0],
  [0x50, 0x41, 0x52, 0x31],
];

/** Resolves to the part of `file` to send for a preview: a Blob that ends with a line, or null if it takes all of it. */
export async function headOf(file) {
  if (file.size <= HEAD_BYTES) {
    return file;
  }
  const bytes = new Uint8Array(await file.slice(0, HEAD_BYTES).arrayBuffer());
  if (WHOLE.some((signature) => signature.every((byte, place) => bytes[place] === byte))) {
    return null;
  }
  return file.slice(0, endOfLastLine(bytes) || bytes.length);
}

/** A sending that broke does not tell which end was lost: resolves to UnreadableFileError if the file, else to `error`. */
export async function whichEnd(error, file) {
  try {
    await file.slice(0, 1).arrayBuffer();
    return error;
  } catch {
    return new UnreadableFileError(file.name);
  }
}

/** The place behind the last line end, 0 without one. In UTF-16 a character is two bytes, and so is a line end. */
function endOfLastLine(bytes) {
  const little = bytes[0] === 0xff && bytes[1] === 0xfe;
  const big = bytes[0] === 0xfe && bytes[1] === 0xff;
  if (!little && !big) {
    return bytes.lastIndexOf(NEWLINE) + 1;
  }
  for (let place = bytes.length - 2; place > 0; place -= 2) {
    if (bytes[place] === (little ? NEWLINE : 0) && bytes[place + 1] === (little ? 0 : NEWLINE)) {
      return place + 2;
    }
  }
  return 0;
}
