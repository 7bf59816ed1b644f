// What zarrita and ome-zarr.js see in OME-Zarr stores: their paths come as a JSON list on standard input, what was
// seen goes to standard output, by client and path.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

import FileSystemStore from "@zarrita/storage/fs";
import { NgffImage } from "ome-zarr.js";
import * as zarr from "zarrita";

const checksum = (data) =>
  createHash("sha256").update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength)).digest("hex");

async function byZarrita(place) {
  const root = zarr.root(new FileSystemStore(place));
  const { attrs } = await zarr.open(root, { kind: "group" });
  const levels = [];
  for (const { path } of (attrs.ome ?? attrs).multiscales[0].datasets) {
    const array = await zarr.open(root.resolve(path), { kind: "array" });
    const { data, shape } = await zarr.get(array);
    levels.push({ shape, dtype: array.dtype, checksum: checksum(data), axes: array.dimensionNames });
  }
  return levels;
}

async function byOmeZarr(place) {
  const image = await NgffImage.load(new FileSystemStore(place));
  const axes = image.axes.map((axis) => axis.name);
  const levels = [];
  for (const [index, spacing] of image.getScales().entries()) {
    const array = await image.openArray(index);
    levels.push({ shape: array.shape, dtype: array.dtype, checksum: checksum(await joined(array)), axes, spacing });
  }
  return levels;
}

// Its arrays are of its own release of zarrita, of which another release reads chunks only.
async function joined(array) {
  const { shape, chunks } = array;
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
  const counts = shape.map((size, axis) => Math.ceil(size / chunks[axis]));
  let whole;
  for (const chunk of indices(counts)) {
    const { data, stride } = await array.getChunk(chunk);
    whole ??= new data.constructor(shape.reduce((a, b) => a * b, 1));
    for (const inside of indices(chunks)) {
      const index = inside.map((at, axis) => at + chunk[axis] * chunks[axis]);
      if (index.every((at, axis) => at < shape[axis])) {
        whole[dot(index, strides)] = data[dot(inside, stride)];
      }
    }
  }
  return whole;
}

const dot = (a, b) => a.reduce((sum, value, axis) => sum + value * b[axis], 0);

function* indices([size, ...rest]) {
  for (let at = 0; at < size; at++) {
    if (rest.length) for (const others of indices(rest)) yield [at, ...others];
    else yield [at];
  }
}

const places = JSON.parse(readFileSync(0, "utf8"));
const seen = {};
for (const [client, read] of Object.entries({ zarrita: byZarrita, "ome-zarr.js": byOmeZarr })) {
  seen[client] = {};
  for (const place of places) {
    try {
      seen[client][place] = { levels: await read(place) };
    } catch (error) {
      seen[client][place] = { error: `${error.name}: ${error.message}` };
    }
  }
}
console.log(JSON.stringify(seen));
