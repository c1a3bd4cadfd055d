"""One page of all results in a folder: what is known of them (collect), small pictures (thumbnails), the page itself."""
