"""Look at trained scenes in a browser: `streamlit run app.py -- runs`."""

from starlette.middleware import Middleware
from streamlit import App

from dietnerf.demo.door import Door

app = App(__file__, middleware=[Middleware(Door)])  # which runs this file once for each visitor

if __name__ == "__main__":
    from dietnerf.demo.page import main

    main()
