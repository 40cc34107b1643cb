// Runs before anything is drawn, so that a chosen theme never flashes.
try {
  const theme = localStorage.getItem("nanobot-theme");
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
} catch { /* storage is switched off: the system's theme it is */ }
