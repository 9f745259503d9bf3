"use strict";
// Draws what the page holds. Numbers come as base64 of little-endian arrays; text of the file never comes here.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
}

// Extinction is stored as whole numbers: 65535 is unknown, others are multiples of `step`.
function volume({ x, y, z, step, values }) {
  const stored = new Uint16Array(bytes(values));
  return { x, y, z, values: Float64Array.from(stored, (v) => (v === 65535 ? NaN : v * step)) };
}

const coarse = volume(data.coarse), fine = volume(data.fine);
const kilo = (m) => m / 1000;
const config = { responsive: true, displayModeBar: false };
const font = { family: "system-ui, sans-serif", size: 13 };
const tidy = { font, margin: { l: 60, r: 10, t: 10, b: 50 } };
const per_metre = (v) => `${v.toPrecision(2)} m⁻¹`;

function bar(title) {
  return { title: { text: title, side: "right" }, thickness: 14, outlinewidth: 0 };
}

function map(id, x, y, z, options, axes) {
  const trace = { type: "heatmap", x, y, z, colorscale: data.colours, hoverongaps: false, ...options };
  const layout = {
    ...tidy, plot_bgcolor: "#c8c8c8", dragmode: false, // a finger scrolls the page
    xaxis: { title: { text: axes[0] }, constrain: "domain", showgrid: false, zeroline: false },
    yaxis: { title: { text: axes[1] }, constrain: "domain", showgrid: false, zeroline: false,
      scaleanchor: axes[2] ? "x" : undefined },
  };
  return Plotly.react(id, [trace], layout, config);
}

// --- surfaces of equal extinction -----------------------------------------------------------------------
function threshold() {
  // Logarithmic: clouds range over decades.
  const part = byId("threshold").value / 100;
  return data.lowest * Math.pow(data.brightest / data.lowest, part);
}

function draw_volume() {
  const { x, y, z, values } = coarse, cells = values.length;
  const place = { x: new Float32Array(cells), y: new Float32Array(cells), z: new Float32Array(cells) };
  let i = 0;
  for (const height of z) for (const north of y) for (const east of x) {
    place.x[i] = kilo(east); place.y[i] = kilo(north); place.z[i++] = kilo(height);
  }
  const low = threshold();
  const trace = {
    type: "isosurface", ...place, value: values.map((v) => (Number.isNaN(v) ? 0 : v)),
    isomin: low, isomax: data.brightest, cmin: 0, cmax: data.brightest, colorscale: data.colours,
    surface: { count: 4 }, opacity: 0.35, caps: { x: { show: false }, y: { show: false }, z: { show: false } },
    colorbar: bar("extinction [m<sup>-1</sup>]"), hoverinfo: "x+y+z+text",
    lighting: { ambient: 0.75, diffuse: 0.6, specular: 0.05 },
  };
  const wide = [x, y, z].map((axis) => kilo(axis[axis.length - 1] - axis[0]));
  const widest = Math.max(wide[0], wide[1]);
  const stretch = Number(byId("stretch").value);
  const axis = (title, values) => ({ title: { text: title }, backgroundcolor: "#f4f4f4", showbackground: true,
    range: [kilo(values[0]), kilo(values[values.length - 1])] });
  const layout = {
    ...tidy, margin: { l: 0, r: 0, t: 0, b: 0 }, uirevision: "kept",
    scene: {
      aspectmode: "manual",
      aspectratio: { x: 1.4 * wide[0] / widest, y: 1.4 * wide[1] / widest, z: 1.4 * stretch * wide[2] / widest },
      xaxis: axis("east [km]", x), yaxis: axis("north [km]", y), zaxis: axis("altitude [km]", z),
      camera: { eye: { x: -1.4, y: -1.9, z: 1.0 }, center: { x: 0, y: 0, z: -0.15 } },
    },
  };
  byId("threshold-value").textContent = per_metre(low);
  return Plotly.react("volume", [trace], layout, config);
}

// --- sections -------------------------------------------------------------------------------------------
const { x, y, z, values } = fine;
const at = (k, j, i) => values[(k * y.length + j) * x.length + i];
const km = { x: x.map(kilo), y: y.map(kilo), z: z.map(kilo) };
const extinction = {
  zmin: 0, zmax: data.brightest, colorbar: bar("extinction [m<sup>-1</sup>]"),
  hovertemplate: "%{x:.2f} km, %{y:.2f} km<br>%{z:.3g} m<sup>-1</sup><extra></extra>",
};

const along = {
  level: [z, (k) => map("level", km.x, km.y, y.map((_, j) => x.map((_, i) => at(k, j, i))), extinction,
    ["east [km]", "north [km]", true])],
  row: [y, (j) => map("row", km.x, km.z, z.map((_, k) => x.map((_, i) => at(k, j, i))), extinction,
    ["east [km]", "altitude [km]"])],
  column: [x, (i) => map("column", km.y, km.z, z.map((_, k) => y.map((_, j) => at(k, j, i))), extinction,
    ["north [km]", "altitude [km]"])],
};

function draw_section(name) {
  const index = Number(byId(`${name}-index`).value), [places, section] = along[name];
  byId(`${name}-value`).textContent = `${kilo(places[index]).toFixed(2)} km`;
  return section(index);
}

// --- maps -----------------------------------------------------------------------------------------------
function draw_maps() {
  const { x, y } = data.maps, columns = x.length;
  const rows = (values) => y.map((_, j) => Array.from(values.subarray(j * columns, (j + 1) * columns)));
  const [latitude, longitude, top, depth] = ["latitude", "longitude", "top", "depth"].map(
    (name) => rows(new Float32Array(bytes(data.maps[name]))));
  const customdata = y.map((_, j) => x.map((_, i) => [latitude[j][i], longitude[j][i]]));
  const draw = (id, label, unit, z, zmax) => map(id, x.map(kilo), y.map(kilo), z, {
    customdata, zmin: 0, zmax, colorbar: bar(label),
    hovertemplate: `%{customdata[0]:.3f}°, %{customdata[1]:.3f}°<br>%{z:.3g}${unit}<extra></extra>`,
  }, ["east [km]", "north [km]", true]);
  return Promise.all([
    draw("top", "km above the ellipsoid", " km", top.map((row) => row.map(kilo)), undefined),
    draw("depth", "optical depth", "", depth, data.maps.deepest),
  ]);
}

async function draw() {
  for (const name of Object.keys(along)) {
    const slider = byId(`${name}-index`);
    slider.max = along[name][0].length - 1;
    slider.value = data.start[name];
    slider.addEventListener("input", () => draw_section(name));
    await draw_section(name);
  }
  await draw_maps();
  byId("threshold").addEventListener("change", draw_volume);
  byId("threshold").addEventListener("input", () => {
    byId("threshold-value").textContent = per_metre(threshold());
  });
  byId("stretch").addEventListener("change", draw_volume);
  byId("stretch").value = data.start.stretch;
  await draw_volume();
  document.body.dataset.drawn = "yes";
}

draw().catch((error) => {
  byId("problem").textContent = `Something could not be drawn: ${error.message ?? error}`;
  byId("problem").hidden = false;
});
