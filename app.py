"""Look at trained scenes in a browser: `streamlit run app.py -- runs`."""

from dietnerf.demo.page import main

if __name__ == "__main__":
    main()
