// The entry of the section that is being read is marked.
const entries = new Map([...document.querySelectorAll("nav a")].map((a) => [document.getElementById(a.hash.slice(1)), a]));
const reading = new IntersectionObserver((found) => {
  for (const { target, isIntersecting } of found) {
    if (!isIntersecting) continue;
    entries.forEach((a) => a.removeAttribute("aria-current"));
    entries.get(target).setAttribute("aria-current", "true");
  }
}, { rootMargin: "-20% 0px -70% 0px" });
entries.forEach((_, section) => section && reading.observe(section));
